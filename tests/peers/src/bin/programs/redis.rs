//! A server under load: the server has the library, who loads it has not.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peers::child::{self, Cost};

use crate::program::{LIMIT, Place, Ran, executable};

/// What `redis-benchmark` asks for; values are of the default 3 bytes but where it is told otherwise.
const TESTS: &str = "set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,lrange_100,mset";

/// Starts a server, loads it with `redis-benchmark`, and ends it.
///
/// The time is the load's; processor time, memory and page faults are the server's.
pub(crate) fn run(place: &Place<'_>) -> io::Result<Ran> {
    let socket = place.folder.join("redis.socket");
    let _ = fs::remove_file(&socket);
    let mut server = place.command("redis-server")?;
    server.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
    server.current_dir(place.folder).stdout(Stdio::null());
    let begin = Instant::now();
    let server = server.stderr(Stdio::null()).spawn()?;
    let loaded = load(place, &socket);
    let shutdown = client(&socket, &["shutdown", "nosave"]);
    let limit = if loaded.is_ok() && shutdown.is_ok() { LIMIT } else { Duration::ZERO };
    let (cost, status) = child::wait(server, begin, limit)?;
    let (wall, checksum) = loaded?;
    if !status.success() {
        return Err(io::Error::other(format!("the server ended with {status}")));
    }
    Ok(Ran { cost: Cost { wall_ns: wall.as_nanos() as u64, ..cost }, checksum })
}

/// Waits until the server answers, loads it, and tells how long that took and how long the list is
/// that the load has left. (The rest of what it leaves depends on chance.)
fn load(place: &Place<'_>, socket: &Path) -> io::Result<(Duration, u64)> {
    let begin = Instant::now();
    while client(socket, &["ping"]).is_err() {
        if begin.elapsed() > Duration::from_secs(30) {
            return Err(io::Error::other("the server does not answer"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    let mut benchmark = Command::new(executable("redis-benchmark")?);
    benchmark
        .arg("-s")
        .arg(socket)
        .args(["-q", "-c", "20", "-P", "16", "-r", "50000", "-d", "100"]);
    benchmark.args(["-n", &place.pick(30_000, 2_000), "-t", TESTS]);
    benchmark.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let cost = child::run(&mut benchmark, LIMIT)?;
    let length = client(socket, &["llen", "mylist"])?;
    let length = length.trim().parse().map_err(|_| io::Error::other("no list is left"))?;
    Ok((Duration::from_nanos(cost.wall_ns), length))
}

/// What the server answers to a command.
fn client(socket: &Path, command: &[&str]) -> io::Result<String> {
    let mut client = Command::new(executable("redis-cli")?);
    let output = client.arg("-s").arg(socket).args(command).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("redis-cli {command:?}: {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
