//! A small server under load: requests over loopback connections, parsed, answered, dropped.

use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::race::Raced;

/// Connections at once, each with its own task on either side.
const CONNECTIONS: u64 = 16;

/// Requests in all, split over the connections.
const REQUESTS: u64 = 24_000;

/// Answers one request a line: a JSON document in, a changed one out.
async fn serve(stream: TcpStream) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(mut request) = serde_json::from_str::<serde_json::Value>(&line) else { return };
        let count = request["items"].as_array().map_or(0, Vec::len);
        request["count"] = count.into();
        let mut answer = request.to_string();
        answer.push('\n');
        if writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Asks for as many things as it is told, one after the other; the sum of the counts answered.
async fn ask(stream: TcpStream, requests: u64) -> u64 {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut sum = 0;
    for number in 0..requests {
        let items: Vec<_> = (0..number % 12).map(|item| format!("item-{item}")).collect();
        let request = serde_json::json!({ "number": number, "path": "/a/b/c", "items": items });
        let mut line = request.to_string();
        line.push('\n');
        writer.write_all(line.as_bytes()).await.expect("a server");
        let line = lines.next_line().await.expect("a server").expect("an answer");
        let answer: serde_json::Value = serde_json::from_str(&line).expect("a document");
        sum += answer["count"].as_u64().expect("a count");
    }
    sum
}

/// Requests to a server in this process, on so many worker threads.
pub(super) fn requests(threads: usize) -> Raced {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_io()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        let began = Instant::now();
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                tokio::spawn(async move {
                    let stream = TcpStream::connect(address).await.expect("the server");
                    stream.set_nodelay(true).expect("a socket");
                    ask(stream, REQUESTS / CONNECTIONS).await
                })
            })
            .collect();
        let mut checksum = 0;
        for client in clients {
            checksum += client.await.expect("a client that ends");
        }
        Raced { operations: REQUESTS, wall_ns: began.elapsed().as_nanos() as u64, checksum }
    })
}
