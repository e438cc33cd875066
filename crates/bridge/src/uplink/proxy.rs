//! Through a proxy: HTTP CONNECT (RFC 9110, 9.3.6) and SOCKS 5 (RFC 1928, 1929). The proxy
//! resolves the upstream's name.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Ended, Layer, dial};
use crate::endpoint::{Endpoint, Proxy, ProxyScheme};

/// The longest head of an answer.
const MAX_HEAD: usize = 8192;

/// User and password.
pub(crate) struct Login {
    username: String,
    password: String,
}

impl Login {
    pub(crate) fn new(username: &str, password: &str) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
        }
    }

    pub(super) fn read(proxy: &Proxy) -> Result<Option<Self>, Ended> {
        let (Some(username), Some(file)) = (&proxy.username, &proxy.password_file) else {
            return Ok(None);
        };
        let password = dial::password(file)?;
        if password.len() > 255 {
            let text = "a proxy's password has at most 255 bytes";
            return Err(Ended::refused(Layer::Settings, text));
        }
        Ok(Some(Self {
            username: username.clone(),
            password,
        }))
    }
}

fn lost(text: impl Into<String>) -> Ended {
    Ended::lost(Layer::Proxy, text)
}

fn refused(text: impl Into<String>) -> Ended {
    Ended::refused(Layer::Proxy, text)
}

fn broken(error: std::io::Error) -> Ended {
    lost(format!("the proxy: {error}"))
}

/// Asks the proxy for the upstream; what comes behind is the upstream's.
pub(crate) async fn pass<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    speaks: ProxyScheme,
    endpoint: &Endpoint,
    login: Option<Login>,
) -> Result<(), Ended> {
    match speaks {
        ProxyScheme::Http => http(stream, endpoint, login).await,
        ProxyScheme::Socks5 => socks5(stream, endpoint, login).await,
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    endpoint: &Endpoint,
    login: Option<Login>,
) -> Result<(), Ended> {
    let authority = endpoint.authority();
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(login) = login {
        let both = STANDARD.encode(format!("{}:{}", login.username, login.password));
        request.push_str(&format!("Proxy-Authorization: Basic {both}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    // Byte by byte: what follows the head is not ours.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(lost("the proxy's answer has no end"));
        }
        head.push(stream.read_u8().await.map_err(broken)?);
    }
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(code @ (401 | 403 | 407)) => Err(refused(format!(
            "the proxy refuses the connection: HTTP status {code}"
        ))),
        Some(code) => Err(lost(format!("the proxy answers with HTTP status {code}"))),
        None => Err(refused("the proxy does not speak HTTP")),
    }
}

/// The status of `HTTP/1.1 200 OK` (RFC 9112, 4).
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|b| *b == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok().filter(|code| *code >= 100)
}

async fn socks5<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    endpoint: &Endpoint,
    login: Option<Login>,
) -> Result<(), Ended> {
    const PASSWORD: u8 = 2;
    let methods: &[u8] = match login {
        Some(_) => &[5, 2, 0, PASSWORD],
        None => &[5, 1, 0],
    };
    stream.write_all(methods).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.map_err(broken)?;
    match (chosen, login) {
        ([5, 0], _) => {}
        ([5, PASSWORD], Some(login)) => authenticate(stream, &login).await?,
        ([5, PASSWORD], None) => {
            return Err(refused("the proxy wants a user name and a password"));
        }
        ([5, _], _) => return Err(refused("the proxy takes none of our ways to authenticate")),
        _ => return Err(refused("the proxy does not speak SOCKS 5")),
    }
    stream.write_all(&request(endpoint)).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(broken)?;
    let [version, reply, _, kind] = head;
    if version != 5 {
        return Err(refused("the proxy does not speak SOCKS 5"));
    }
    if reply != 0 {
        return Err(replied(reply));
    }
    let rest = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await.map_err(broken)?),
        _ => return Err(lost("the proxy answers with an unknown kind of address")),
    };
    // The address that the proxy bound, and its port: nobody needs them.
    let mut bound = vec![0; rest + 2];
    stream.read_exact(&mut bound).await.map_err(broken)?;
    Ok(())
}

/// RFC 1929.
async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    login: &Login,
) -> Result<(), Ended> {
    let mut request = vec![1];
    for text in [&login.username, &login.password] {
        request.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        request.extend(text.bytes().take(usize::from(u8::MAX)));
    }
    stream.write_all(&request).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.map_err(broken)?;
    match answer {
        [_, 0] => Ok(()),
        _ => Err(refused("the proxy refuses the user name or the password")),
    }
}

fn request(endpoint: &Endpoint) -> Vec<u8> {
    let mut request = vec![5, 1, 0];
    match endpoint.host.parse() {
        Ok(IpAddr::V4(address)) => {
            request.push(1);
            request.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(4);
            request.extend(address.octets());
        }
        Err(_) => {
            request.push(3);
            request.push(u8::try_from(endpoint.host.len()).unwrap_or(u8::MAX));
            request.extend(endpoint.host.bytes().take(usize::from(u8::MAX)));
        }
    }
    request.extend(endpoint.port.to_be_bytes());
    request
}

/// RFC 1928, 6.
fn replied(reply: u8) -> Ended {
    let text = match reply {
        2 => return refused("the proxy's rules forbid the connection"),
        3 => "the network is unreachable from the proxy",
        4 => "the upstream is unreachable from the proxy, or has no such name",
        5 => "the upstream refuses the proxy's connection",
        6 => "the connection behind the proxy takes too long",
        7 | 8 => return refused("the proxy does not know CONNECT or this kind of address"),
        _ => "the proxy failed",
    };
    lost(format!("{text} (SOCKS reply {reply})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_its_line_alone() {
        assert_eq!(
            status(b"HTTP/1.1 200 Connection established\r\n\r\n"),
            Some(200)
        );
        assert_eq!(status(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        for bad in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 x\r\n\r\n",
            b"HTTP/1.1 9\r\n\r\n",
            b"\r\n",
        ] {
            assert_eq!(status(bad), None);
        }
    }

    #[test]
    fn names_go_to_the_proxy_as_they_are_and_addresses_as_addresses() {
        let of = |url| request(&Endpoint::parse(url).unwrap());
        assert_eq!(of("mqtt://ab:256"), [5, 1, 0, 3, 2, b'a', b'b', 1, 0]);
        assert_eq!(of("mqtt://1.2.3.4:1"), [5, 1, 0, 1, 1, 2, 3, 4, 0, 1]);
        assert_eq!(of("mqtt://[::1]:1").len(), 3 + 1 + 16 + 2);
    }
}
