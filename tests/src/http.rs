//! The smallest HTTP client that will do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

use crate::process::PATIENCE;

/// A request on its way.
pub struct Request {
    answer: JoinHandle<Result<String, String>>,
}

/// Sends `GET path` on a thread of its own.
pub fn get(address: SocketAddr, path: &str) -> Request {
    let path = path.to_string();
    Request {
        answer: std::thread::spawn(move || fetch(address, &path)),
    }
}

impl Request {
    /// Waits for the body; Err when the server went away or did not answer 200.
    pub fn body(self) -> Result<String, String> {
        self.answer
            .join()
            .unwrap_or_else(|_| Err("the client panicked".into()))
    }
}

fn fetch(address: SocketAddr, path: &str) -> Result<String, String> {
    let text = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_string()),
        _ => Err(format!("{path}: {answer:?}")),
    }
}
