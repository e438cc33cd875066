//! Where an upstream or a proxy is.

use std::path::PathBuf;

use crate::ConfigError;

/// How an upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Mqtt,
    Mqtts,
    Ws,
    Wss,
}

impl Scheme {
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    pub(crate) fn is_web_socket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// Where the upstream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: Scheme,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Of a WebSocket.
    pub(crate) path: String,
}

impl Endpoint {
    pub(crate) fn parse(url: &str) -> Result<Self, ConfigError> {
        let error = |reason| ConfigError::Url {
            url: url.to_owned(),
            reason,
        };
        let (scheme, default, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (Scheme::Mqtt, 1883, rest),
            Some(("mqtts", rest)) => (Scheme::Mqtts, 8883, rest),
            Some(("ws", rest)) => (Scheme::Ws, 80, rest),
            Some(("wss", rest)) => (Scheme::Wss, 443, rest),
            _ => return Err(error("begins with mqtt://, mqtts://, ws:// or wss://")),
        };
        let (rest, path) = match rest.split_once('/') {
            Some((rest, "")) => (rest, None),
            Some((rest, path)) => (rest, Some(format!("/{path}"))),
            None => (rest, None),
        };
        if path.is_some() && !scheme.is_web_socket() {
            return Err(error("has a path, which MQTT over TCP does not know"));
        }
        let path = path.unwrap_or_else(|| "/mqtt".into());
        if rest.contains(['?', '#']) || path.contains('#') || !path.is_ascii() {
            return Err(error("has more than a host, a port and a path"));
        }
        let (host, port) = host_and_port(rest, default).map_err(error)?;
        Ok(Self {
            scheme,
            host,
            port,
            path,
        })
    }

    /// As it stands in messages, in a proxy's CONNECT and in HTTP's `Host`.
    pub(crate) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn host_and_port(text: &str, default: u16) -> Result<(String, u16), &'static str> {
    if text.contains('@') {
        return Err("holds credentials: they have keys of their own");
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|p| *p > 0);
            (host, port.ok_or("the port is no number of 1 to 65535")?)
        }
        _ => (text, default),
    };
    let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let plain = literal.unwrap_or(host);
    if literal.is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_err()) {
        return Err("what is in brackets is no IPv6 address");
    }
    if plain.is_empty() || (plain.contains(':') && literal.is_none()) {
        return Err("has no host (an IPv6 address stands in brackets)");
    }
    let fits = plain.len() <= 255 && plain.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err("the host is no name");
    }
    Ok((plain.to_owned(), port))
}

/// A proxy on the way to an upstream. It resolves the upstream's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `http://host[:8080]` (CONNECT, RFC 9110, 9.3.6) or `socks5://host[:1080]` (RFC 1928).
    pub url: String,
    /// User name there.
    pub username: Option<String>,
    /// File of the password there, read anew for each try.
    pub password_file: Option<PathBuf>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyScheme {
    Http,
    Socks5,
}

impl Proxy {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.place()?;
        let value = |key, reason| Err(ConfigError::Value { key, reason });
        if self.username.is_some() != self.password_file.is_some() {
            return value("proxy_username", "stands together with proxy_password_file");
        }
        let Some(username) = &self.username else {
            return Ok(());
        };
        // RFC 1929; RFC 7617, 2.
        if username.is_empty() || username.len() > 255 || username.contains([':', '\r', '\n']) {
            return value("proxy_username", "1 to 255 bytes without a colon");
        }
        Ok(())
    }

    pub(crate) fn place(&self) -> Result<(ProxyScheme, String, u16), ConfigError> {
        let error = |reason| ConfigError::Url {
            url: self.url.clone(),
            reason,
        };
        let (scheme, default, rest) = match self.url.split_once("://") {
            Some(("http", rest)) => (ProxyScheme::Http, 8080, rest),
            Some(("socks5", rest)) => (ProxyScheme::Socks5, 1080, rest),
            _ => return Err(error("a proxy begins with http:// or socks5://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(error("a proxy has a host and a port and no more"));
        }
        let (host, port) = host_and_port(rest, default).map_err(error)?;
        Ok((scheme, host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let ok = |url| {
            let e = Endpoint::parse(url).unwrap();
            (e.scheme, e.host, e.port, e.path)
        };
        let path = || "/mqtt".to_owned();
        assert_eq!(
            ok("mqtt://host"),
            (Scheme::Mqtt, "host".into(), 1883, path())
        );
        assert_eq!(
            ok("mqtts://host/"),
            (Scheme::Mqtts, "host".into(), 8883, path())
        );
        assert_eq!(ok("mqtts://host:443").2, 443);
        assert_eq!(
            ok("mqtt://[::1]:1884"),
            (Scheme::Mqtt, "::1".into(), 1884, path())
        );
        assert_eq!(ok("mqtts://[::1]").1, "::1");
        assert_eq!(ok("ws://host"), (Scheme::Ws, "host".into(), 80, path()));
        assert_eq!(
            ok("wss://host:8443/a/b?c=d"),
            (Scheme::Wss, "host".into(), 8443, "/a/b?c=d".into())
        );
        for bad in [
            "host",
            "http://host",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://host:0",
            "mqtt://host:x",
            "mqtt://host:70000",
            "mqtt://u:p@host",
            "mqtt://host/path",
            "mqtt://::1",
            "mqtts://[1.2.3.4]",
            "ws://host/a#b",
            "wss://ho st/a",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxy_is_http_or_socks5_and_its_user_has_a_password() {
        let proxy = |url: &str| Proxy {
            url: url.into(),
            username: None,
            password_file: None,
        };
        assert_eq!(
            proxy("http://p:3128").place(),
            Ok((ProxyScheme::Http, "p".into(), 3128))
        );
        assert_eq!(
            proxy("socks5://[::1]").place(),
            Ok((ProxyScheme::Socks5, "::1".into(), 1080))
        );
        for bad in ["https://p", "p:3128", "http://u:p@host", "http://p/x"] {
            assert!(proxy(bad).check().is_err(), "{bad}");
        }
        let mut half = proxy("http://p");
        half.username = Some("me".into());
        assert!(half.check().is_err());
    }
}
