//! A proxy that speaks CONNECT and SOCKS 5, as squid and sshd do.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Proxy {
    pub port: u16,
    /// The targets that were asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Wants this user and password, when there is one.
    pub async fn start(login: Option<(&'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, login, seen.clone()));
            }
        });
        Self { port, asked, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    login: Option<(&'static str, &'static str)>,
    asked: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let first = stream.read_u8().await.ok()?;
    let target = match first {
        5 => socks(&mut stream, login).await?,
        _ => http(&mut stream, login).await?,
    };
    asked.lock().unwrap().push(target.clone());
    let mut upstream = TcpStream::connect(&target).await.ok()?;
    let granted: &[u8] = match first {
        5 => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        _ => b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n",
    };
    stream.write_all(granted).await.ok()?;
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
    Some(())
}

async fn socks(stream: &mut TcpStream, login: Option<(&str, &str)>) -> Option<String> {
    let mut methods = vec![0; usize::from(stream.read_u8().await.ok()?)];
    stream.read_exact(&mut methods).await.ok()?;
    let wanted = if login.is_some() { 2 } else { 0 };
    if !methods.contains(&wanted) {
        stream.write_all(&[5, 0xFF]).await.ok()?;
        return None;
    }
    stream.write_all(&[5, wanted]).await.ok()?;
    if let Some((user, password)) = login {
        assert_eq!(stream.read_u8().await.ok()?, 1);
        let (given, secret) = (text(stream).await?, text(stream).await?);
        let right = given == user && secret == password;
        stream.write_all(&[1, u8::from(!right)]).await.ok()?;
        if !right {
            return None;
        }
    }
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.ok()?;
    assert_eq!(head, [5, 1, 0, 3], "a name, not an address");
    let name = text(stream).await?;
    Some(format!("{name}:{}", stream.read_u16().await.ok()?))
}

async fn text(stream: &mut TcpStream) -> Option<String> {
    let mut text = vec![0; usize::from(stream.read_u8().await.ok()?)];
    stream.read_exact(&mut text).await.ok()?;
    String::from_utf8(text).ok()
}

async fn http(stream: &mut TcpStream, login: Option<(&str, &str)>) -> Option<String> {
    let mut head = vec![b'C'];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    if login.is_some() {
        // user:secret
        if !head.contains("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n") {
            let no = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(no).await.ok()?;
            return None;
        }
    }
    let line = head.lines().next()?;
    let target = line.strip_prefix("CONNECT ")?.strip_suffix(" HTTP/1.1")?;
    assert!(head.contains(&format!("\r\nHost: {target}\r\n")), "{head}");
    Some(target.to_owned())
}
