//! A program whose threads are run one at a time, from system call to system call: so that what comes of
//! chance otherwise, who waits for whom and in what order, is decided by a test.

use std::ffi::{c_int, c_long, c_void};
use std::fs::File;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::ptr;

use crate::program::{Finished, Watchdog};

/// A thread of the program, by its number in the kernel.
pub(crate) type Tid = libc::pid_t;

/// A system call that a thread is about to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) number: c_long,
    pub(crate) arguments: [u64; 6],
}

/// A child whose threads stand still but for the one that is moved on. It must be made, moved on and let
/// go by one thread.
pub(crate) struct SteppedThreads {
    child: Option<Child>,
    watchdog: Option<Watchdog>,
    /// In the order in which they were met; the first is the main one.
    threads: Vec<Tid>,
}

impl SteppedThreads {
    /// Starts a program, whose standard input is a pipe. `None` where that is not allowed.
    pub(crate) fn start(command: &mut Command) -> Option<Self> {
        let none = ptr::null_mut();
        // SAFETY: the closure makes one system call and touches nothing.
        unsafe { command.pre_exec(move || request(libc::PTRACE_TRACEME, 0, ptr::null_mut(), 0)) };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            Err(error) => panic!("{error}"),
        };
        let main = child.id().cast_signed();
        let stepped =
            Self { watchdog: Some(Watchdog::of(&child)), child: Some(child), threads: vec![main] };
        assert!(wait(main), "the program ended before it began");
        let options =
            libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
        request(libc::PTRACE_SETOPTIONS, main, none, options as usize).expect("it stands still");
        Some(stepped)
    }

    /// The thread that the program began with.
    pub(crate) fn main(&self) -> Tid {
        self.threads[0]
    }

    /// Lets all threads run until so many of them are about to read standard input, which they wait in
    /// from here on, and the main one stands still behind that; answers which they are.
    pub(crate) fn until_reading(&mut self, count: usize) -> Vec<Tid> {
        let mut reading = Vec::new();
        go_on(self.main());
        loop {
            // Of this thread alone: other tests wait for children of their own.
            let (thread, stop) = wait_any();
            match stop {
                Stop::Ended => panic!("the program ended"),
                Stop::Clone => self.meet_clone(thread),
                Stop::Other => {}
                Stop::Call => {
                    if self.call(thread).is_some_and(|call| call.reads_standard_input()) {
                        reading.push(thread);
                    } else if reading.len() == count && thread == self.main() {
                        return reading;
                    }
                }
            }
            go_on(thread);
        }
    }

    /// Gives a byte to one of the threads that read standard input.
    pub(crate) fn wake_one(&self) {
        use std::io::Write;
        let mut pipe = self.child.as_ref().and_then(|child| child.stdin.as_ref()).expect("a pipe");
        pipe.write_all(b"x").expect("read by somebody");
    }

    /// Waits until one of these threads, which run, stands still.
    pub(crate) fn wait_for_one_of(&self, threads: &[Tid]) -> Tid {
        loop {
            for &thread in threads {
                if self.poll(thread) {
                    return thread;
                }
            }
            std::thread::yield_now();
        }
    }

    /// Lets a thread that stands still run until it is about to make a call that is `wanted`; `None` where
    /// it ends before.
    pub(crate) fn run_to_call(
        &mut self,
        thread: Tid,
        wanted: impl Fn(&Call) -> bool,
    ) -> Option<Call> {
        loop {
            go_on(thread);
            if !wait(thread) {
                self.threads.retain(|&other| other != thread);
                return None;
            }
            if let Some(call) = self.call(thread).filter(|call| wanted(call)) {
                return Some(call);
            }
        }
    }

    /// What stands at an address of the program.
    pub(crate) fn memory(&self, address: u64, length: usize) -> Vec<u8> {
        let memory = File::open(format!("/proc/{}/mem", self.main())).expect("its memory");
        let mut bytes = vec![0; length];
        memory.read_exact_at(&mut bytes, address).expect("mapped");
        bytes
    }

    /// Lets all threads run to their end, none of which still reads standard input.
    pub(crate) fn let_go(mut self) -> Finished {
        for &thread in &self.threads {
            request(libc::PTRACE_DETACH, thread, ptr::null_mut(), 0).expect("it stands still");
        }
        let child = self.child.take().expect("not let go before");
        let pid = child.id();
        let output = child.wait_with_output().expect("its end");
        let hung = self.watchdog.take().is_some_and(Watchdog::barked);
        assert!(!hung, "it did not end in time");
        let [stdout, stderr] = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Finished { status: output.status, pid, stdout, stderr }
    }

    /// The call that a thread is about to make; `None` where it stands still for another reason.
    fn call(&self, thread: Tid) -> Option<Call> {
        let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
        let bytes = size_of::<libc::ptrace_syscall_info>();
        request(libc::PTRACE_GET_SYSCALL_INFO, thread, info.as_mut_ptr().cast(), bytes)
            .expect("it stands still");
        // SAFETY: zeroed memory is valid, and the kernel has written at most so much.
        let info = unsafe { info.assume_init() };
        (info.op == libc::PTRACE_SYSCALL_INFO_ENTRY).then(|| {
            // SAFETY: of this kind the kernel has filled this part.
            let entry = unsafe { info.u.entry };
            Call { number: entry.nr as c_long, arguments: entry.args }
        })
    }

    fn meet_clone(&mut self, parent: Tid) {
        let mut made = 0_u64;
        let place = (&raw mut made).cast::<c_void>();
        let none = ptr::null_mut::<c_void>();
        // SAFETY: the request writes one word, which `made` is.
        let result = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, parent, none, place) };
        assert_eq!(result, 0);
        self.threads.push(made as Tid);
    }

    /// Whether a thread that runs stands still by now.
    fn poll(&self, thread: Tid) -> bool {
        let mut status = 0;
        let options = libc::__WALL | libc::WNOHANG;
        // SAFETY: the call writes one `c_int`, which `status` is.
        let waited = unsafe { libc::waitpid(thread, &raw mut status, options) };
        assert!(waited == 0 || waited == thread);
        assert!(waited == 0 || libc::WIFSTOPPED(status), "the thread ended");
        waited == thread
    }
}

impl Drop for SteppedThreads {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            // The main thread's end is not told before that of the others.
            for &thread in self.threads.iter().skip(1) {
                while wait(thread) {}
            }
            let _ = child.wait();
        }
    }
}

impl Call {
    fn reads_standard_input(&self) -> bool {
        self.number == libc::SYS_read && self.arguments[0] == 0
    }
}

/// Why a thread stands still.
enum Stop {
    Ended,
    /// It has made another one.
    Clone,
    /// It begins or ends a system call.
    Call,
    Other,
}

/// Waits until any thread of this thread's children stands still.
fn wait_any() -> (Tid, Stop) {
    let mut status: c_int = 0;
    // SAFETY: the call writes one `c_int`, which `status` is.
    let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
    assert!(thread > 0, "{}", io::Error::last_os_error());
    let stop = if !libc::WIFSTOPPED(status) {
        Stop::Ended
    } else if status >> 16 == libc::PTRACE_EVENT_CLONE {
        Stop::Clone
    } else if libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 {
        Stop::Call
    } else {
        Stop::Other
    };
    (thread, stop)
}

/// Waits until a thread stands still; `false` where it has ended.
fn wait(thread: Tid) -> bool {
    let mut status = 0;
    // SAFETY: the call writes one `c_int`, which `status` is.
    let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    waited == thread && libc::WIFSTOPPED(status)
}

/// Lets a thread that stands still run to the beginning or the end of its next system call.
fn go_on(thread: Tid) {
    request(libc::PTRACE_SYSCALL, thread, ptr::null_mut(), 0).expect("it stands still");
}

/// Makes a request whose address, if it has one, is `place`, and which has a number beside that: as `ptrace`
/// takes them, in one or the other order.
fn request(what: Request, thread: Tid, place: *mut c_void, number: usize) -> io::Result<()> {
    let number = ptr::without_provenance_mut::<c_void>(number);
    let is_info = what == libc::PTRACE_GET_SYSCALL_INFO;
    let (address, data) = if is_info { (number, place) } else { (place, number) };
    // SAFETY: `PTRACE_GET_SYSCALL_INFO` writes at most `number` bytes to `place`, which its caller has;
    // the other requests made here take no address.
    let result = unsafe { libc::ptrace(what, thread, address, data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

type Request = libc::c_uint;
