//! A proxy on loopback that connects one host name to a local port. So a program reaches the
//! registry of a test under a name, without a port, and nothing leaves the machine.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The longest head of a request that the proxy reads, in bytes.
const MAX_HEAD: usize = 8192;

/// A running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Tunnel {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Tunnel {
    /// Starts a proxy that connects port 443 of this host to that port of this machine. It refuses
    /// every other request.
    pub async fn start(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, served) = (Arc::clone(&asked), format!("{host}:443"));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (seen, served) = (Arc::clone(&seen), served.clone());
                tokio::spawn(async move { connect(client, &served, port, &seen).await });
            }
        });
        Self { url, asked, accepting }
    }

    /// Returns the address of the proxy, for `HTTPS_PROXY`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the hosts and ports that programs asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connect(
    mut client: TcpStream,
    served: &str,
    port: u16,
    seen: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    // Byte by byte: what follows the head is for the server.
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        head.push(client.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let asked = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let refused = !line.starts_with("CONNECT ") || asked != served;
    seen.lock().unwrap().push(asked);
    if refused {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    }
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks the proxy for a host, and returns what it answers to that and to `ping`.
    async fn answer(tunnel: &Tunnel, asked: &str) -> String {
        let address = tunnel.url().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{asked} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let mut read = String::new();
        if asked.starts_with("CONNECT registry.example.com:443") {
            stream.write_all(b"ping").await.unwrap();
            stream.shutdown().await.unwrap();
        }
        stream.read_to_string(&mut read).await.unwrap();
        read
    }

    #[tokio::test]
    async fn the_proxy_connects_one_host_and_refuses_all_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut server, _) = listener.accept().await.unwrap();
            let mut read = String::new();
            server.read_to_string(&mut read).await.unwrap();
            server.write_all(format!("got {read}").as_bytes()).await.unwrap();
        });
        let tunnel = Tunnel::start("registry.example.com", port).await;
        for asked in [
            "CONNECT registry.example.com:80",
            "CONNECT evil.example.com:443",
            "GET http://registry.example.com/",
        ] {
            assert!(answer(&tunnel, asked).await.starts_with("HTTP/1.1 403 "), "{asked}");
        }
        let answer = answer(&tunnel, "CONNECT registry.example.com:443").await;
        assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\ngot ping");
        assert_eq!(tunnel.asked().len(), 4);
    }
}
