//! A browser without a window, driven over its DevTools protocol.

#![allow(dead_code, reason = "each test uses a part")]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

/// How long anything may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// A page in a browser of its own, which ends with it.
pub(crate) struct Page {
    browser: Child,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    calls: u64,
    /// Script errors, and whatever else the browser complained about.
    pub(crate) errors: Vec<String>,
    /// What was asked of any network.
    pub(crate) requests: Vec<String>,
    _profile: TempDir,
}

/// The browser on this machine. Without one the tests fail where `CI` is set, and say loudly that they
/// are skipped elsewhere.
pub(crate) fn find() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let all = BROWSERS.iter().flat_map(|name| directories.iter().map(move |at| at.join(name)));
        all.into_iter().find(|candidate| candidate.is_file())
    });
    if found.is_none() {
        let complaint = "no browser: install chromium, or name one in CHROMIUM";
        assert!(std::env::var_os("CI").is_none(), "{complaint}");
        eprintln!("SKIPPED: {complaint}");
    }
    found
}

impl Page {
    /// Opens a file, in a window of this size.
    pub(crate) fn open(browser: &Path, file: &Path, width: u32, height: u32) -> Self {
        let profile = tempfile::tempdir().expect("a directory");
        let mut browser = Command::new(browser)
            .args(["--headless=new", "--disable-gpu", "--no-first-run", "--hide-scrollbars"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0"])
            // Root may not have a sandbox of its own; the page is ours.
            .arg("--no-sandbox")
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let mut lines = BufReader::new(browser.stderr.take().expect("piped")).lines();
        let url = lines.find_map(|line| {
            let line = line.ok()?;
            line.strip_prefix("DevTools listening on ").map(str::to_owned)
        });
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = tungstenite::connect(url.expect("its address")).expect("connected");
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        }
        let mut page = Self {
            browser,
            socket,
            session: None,
            calls: 0,
            errors: Vec::new(),
            requests: Vec::new(),
            _profile: profile,
        };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = page.call("Target.attachToTarget", attach);
        page.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        page.call("Emulation.setDeviceMetricsOverride", metrics);
        page.call("Page.navigate", json!({ "url": format!("file://{}", file.display()) }));
        page
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string())).expect("sent");
        loop {
            let message = self.socket.read().expect("an answer in time");
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(text.as_str()).expect("JSON");
            if answer["id"] == json!(self.calls) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                self.errors.push(parameters["exceptionDetails"].to_string());
            }
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                self.errors.push(parameters["entry"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                let url = parameters["request"]["url"].as_str().unwrap_or_default();
                if !url.starts_with("file:") && !url.starts_with("data:") {
                    self.requests.push(url.to_owned());
                }
            }
            _ => {}
        }
    }

    /// What an expression of the page's is.
    pub(crate) fn get(&mut self, expression: &str) -> Value {
        let parameters =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters);
        let failed = &answer["exceptionDetails"];
        assert!(failed.is_null(), "{expression}: {failed}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) fn wait_for(&mut self, expression: &str) {
        let begin = Instant::now();
        while self.get(expression) != json!(true) {
            assert!(begin.elapsed() < PATIENCE, "never: {expression}; {:?}", self.errors);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until what was picked has been drawn.
    pub(crate) fn settle(&mut self) {
        self.get("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))");
    }

    fn text_of(selector: &str) -> String {
        json!(selector).to_string()
    }

    /// The text that is seen of an element.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let selector = Self::text_of(selector);
        let text = self.get(&format!("document.querySelector({selector}).innerText"));
        text.as_str().unwrap_or_else(|| panic!("no text: {selector}")).to_owned()
    }

    /// Left, top, width and height of an element, which is scrolled to.
    pub(crate) fn place(&mut self, selector: &str) -> [f64; 4] {
        let selector = Self::text_of(selector);
        let place = self.get(&format!(
            "(() => {{ const it = document.querySelector({selector}); \
             it.scrollIntoView({{ block: 'center', behavior: 'instant' }}); \
             const at = it.getBoundingClientRect(); \
             return [at.left, at.top, at.width, at.height]; }})()"
        ));
        let number = |index: usize| place[index].as_f64().unwrap_or_else(|| panic!("{selector}"));
        [number(0), number(1), number(2), number(3)]
    }

    fn mouse(&mut self, kind: &str, x: f64, y: f64, pressed: bool) {
        let parameters = json!({
            "type": kind, "x": x, "y": y, "button": if pressed { "left" } else { "none" },
            "buttons": u8::from(pressed), "clickCount": u8::from(kind != "mouseMoved"),
        });
        self.call("Input.dispatchMouseEvent", parameters);
    }

    /// Clicks the middle of an element.
    pub(crate) fn click(&mut self, selector: &str) {
        let [left, top, width, height] = self.place(selector);
        let (x, y) = (left + width / 2.0, top + height / 2.0);
        self.mouse("mouseMoved", x, y, false);
        self.mouse("mousePressed", x, y, true);
        self.mouse("mouseReleased", x, y, true);
        self.settle();
    }

    /// Drags from one place to another in a few steps.
    pub(crate) fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.mouse("mouseMoved", from.0, from.1, false);
        self.mouse("mousePressed", from.0, from.1, true);
        for step in 1..=4 {
            let part = f64::from(step) / 4.0;
            let x = from.0 + (to.0 - from.0) * part;
            self.mouse("mouseMoved", x, from.1 + (to.1 - from.1) * part, true);
        }
        self.mouse("mouseReleased", to.0, to.1, true);
        self.settle();
    }

    /// Presses a key, such as `Enter` or `ArrowRight`, where the focus is.
    pub(crate) fn press(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "End" => 35,
            "Home" => 36,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "PageUp" => 33,
            "PageDown" => 34,
            other => panic!("no code for {other}"),
        };
        for kind in ["rawKeyDown", "keyUp"] {
            let parameters = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
            });
            self.call("Input.dispatchKeyEvent", parameters);
        }
        self.settle();
    }

    /// Puts the focus on an element.
    pub(crate) fn focus(&mut self, selector: &str) {
        let selector = Self::text_of(selector);
        self.get(&format!("document.querySelector({selector}).focus()"));
    }

    /// Replaces what stands in a field, as if typed.
    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        self.focus(selector);
        self.get("document.activeElement.select()");
        if text.is_empty() {
            let delete = json!({
                "type": "keyDown", "key": "Backspace", "code": "Backspace", "windowsVirtualKeyCode": 8,
            });
            self.call("Input.dispatchKeyEvent", delete);
        } else {
            self.call("Input.insertText", json!({ "text": text }));
        }
        self.settle();
    }

    /// Chooses from a list.
    pub(crate) fn choose(&mut self, selector: &str, value: &str) {
        let (selector, value) = (Self::text_of(selector), json!(value));
        self.get(&format!(
            "(() => {{ const it = document.querySelector({selector}); it.value = {value}; \
             it.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"
        ));
        self.settle();
    }

    /// Light or dark, as the user's system would have it.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features);
        self.settle();
    }

    /// Takes a picture of what is seen.
    pub(crate) fn photograph(&mut self, to: &Path) {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let picture = picture["data"].as_str().expect("a picture");
        std::fs::write(to, BASE64_STANDARD.decode(picture).expect("base64")).expect("written");
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Ours to end; a browser that is gone already is no matter.
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
