//! A client that sees every byte.
#![allow(
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the report; no test file uses all of them"
)]

use std::net::SocketAddr;

use fastwrap_engine::{Engine, Flavor, Options};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came back on a connection that was then closed.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// Whether the body ended as HTTP says it must.
    pub(crate) complete: bool,
    /// The sizes of the HTTP chunks, if the body came in chunks.
    pub(crate) chunks: Vec<usize>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }

    /// The events of the body without framing, `[DONE]` included.
    pub(crate) fn events(&self) -> Vec<&str> {
        let events = self.body.split("\n\n").filter(|event| !event.is_empty() && *event != ":");
        events.map(|event| event.strip_prefix("data:").expect(event).trim_start()).collect()
    }

    /// The events that are JSON.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let events = self.events().into_iter().filter(|event| *event != "[DONE]");
        events.map(|event| serde_json::from_str(event).expect(event)).collect()
    }
}

/// Start an engine that lives as long as the test's runtime.
pub(crate) async fn start(options: Options) -> SocketAddr {
    let engine = Engine::bind("127.0.0.1", 0, options).await.unwrap();
    let address = engine.local_addr();
    tokio::spawn(engine.serve(std::future::pending()));
    address
}

pub(crate) async fn start_flavor(flavor: Flavor) -> SocketAddr {
    start(Options { flavor, ..Options::default() }).await
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    exchange(address, "POST", path, &body.to_string()).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    exchange(address, "GET", path, "").await
}

/// Post a chat request with these members added.
pub(crate) async fn chat(address: SocketAddr, members: Value) -> Answer {
    let mut body =
        json!({"model": "tiny", "messages": [{"role": "user", "content": "one two three"}]});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    post(address, "/v1/chat/completions", &body).await
}

pub(crate) async fn connect(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: engine\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

pub(crate) async fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = connect(address, method, path, body).await;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap();
    let split = raw.windows(4).position(|window| window == b"\r\n\r\n").expect("a response head");
    let head = String::from_utf8(raw[..split].to_vec()).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let rest = &raw[split + 4..];
    let (bytes, complete, chunks) = if head.contains("transfer-encoding: chunked") {
        dechunk(rest)
    } else {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        (rest.to_vec(), length.is_none_or(|length| length == rest.len().to_string()), Vec::new())
    };
    Answer { status, head, body: String::from_utf8(bytes).unwrap(), complete, chunks }
}

fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool, Vec<usize>) {
    let (mut body, mut chunks) = (Vec::new(), Vec::new());
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return (body, true, chunks);
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        chunks.push(size);
        rest = &rest[end + 4 + size..];
    }
    (body, false, chunks)
}
