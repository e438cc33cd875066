//! URIs of keys (RFC 7512). What is not understood is refused: it could name another key.

use std::path::PathBuf;

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(not(feature = "pkcs11"), allow(dead_code))]
pub(super) struct KeyUri {
    pub(super) token: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) slot_id: Option<u64>,
    pub(super) object: Option<String>,
    pub(super) id: Option<Vec<u8>>,
    pub(super) module: PathBuf,
    pub(super) pin: Pin,
}

/// How the token lets us in.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) enum Pin {
    /// It asks nothing.
    #[default]
    None,
    /// The first line of a file.
    File(PathBuf),
    /// As it stands in the URI.
    Value(String),
}

impl std::fmt::Debug for Pin {
    /// Without the pin.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(path) => write!(f, "File({path:?})"),
            Self::Value(_) => f.write_str("Value"),
        }
    }
}

impl KeyUri {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("pkcs11:").ok_or("it is no pkcs11 URI")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self::default();
        let mut seen = Vec::new();
        let path = path.split(';').map(|attribute| (attribute, true));
        let query = query.split('&').map(|attribute| (attribute, false));
        for (attribute, in_path) in path.chain(query).filter(|(text, _)| !text.is_empty()) {
            let (name, value) = attribute
                .split_once('=')
                .ok_or_else(|| format!("{attribute:?} is no NAME=VALUE"))?;
            if seen.contains(&name) {
                return Err(format!("{name} stands twice"));
            }
            seen.push(name);
            let bytes = decoded(value)?;
            match in_path {
                true => uri.path_attribute(name, bytes)?,
                false => uri.query_attribute(name, bytes)?,
            }
        }
        if uri.module.as_os_str().is_empty() {
            return Err("module-path is missing: the library that speaks to the token".into());
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err("neither object nor id says which key it is".into());
        }
        Ok(uri)
    }

    fn path_attribute(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), String> {
        match name {
            "id" => self.id = Some(bytes),
            "token" => self.token = Some(text(bytes)?),
            "manufacturer" => self.manufacturer = Some(text(bytes)?),
            "model" => self.model = Some(text(bytes)?),
            "serial" => self.serial = Some(text(bytes)?),
            "object" => self.object = Some(text(bytes)?),
            "slot-id" => {
                let number = text(bytes)?.parse();
                self.slot_id = Some(number.map_err(|_| "slot-id is no number")?);
            }
            "type" if bytes == b"private" => {}
            "type" => return Err("type must be private: it is a key to sign with".into()),
            other => return Err(format!("{other} is not supported in the path")),
        }
        Ok(())
    }

    fn query_attribute(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), String> {
        let pin = match name {
            "module-path" => {
                self.module = absolute(text(bytes)?, name)?;
                return Ok(());
            }
            "pin-value" => Pin::Value(text(bytes)?),
            "pin-source" => {
                let source = text(bytes)?;
                let path = source.strip_prefix("file:").unwrap_or(&source);
                let path = path.strip_prefix("//").unwrap_or(path);
                Pin::File(absolute(path.to_owned(), name)?)
            }
            other => return Err(format!("{other} is not supported in the query")),
        };
        if self.pin != Pin::None {
            return Err("pin-value and pin-source exclude each other".into());
        }
        self.pin = pin;
        Ok(())
    }
}

fn absolute(text: String, name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("{name} must be an absolute path"))
    }
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "a text is not UTF-8".into())
}

/// Percent-decoding (RFC 3986, 2.1).
fn decoded(value: &str) -> Result<Vec<u8>, String> {
    let mut bytes = value.bytes();
    let mut out = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        match (digit(), digit()) {
            (Some(high), Some(low)) => out.push(u8::try_from(high * 16 + low).unwrap_or(0)),
            _ => return Err(format!("{value:?} has a % without two hex digits")),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uri_says_where_the_key_is() {
        let uri = KeyUri::parse(
            "pkcs11:token=My%20Token;manufacturer=m;model=x;serial=12;slot-id=3;object=key;id=%01%ff;type=private\
             ?module-path=/usr/lib/m.so&pin-source=file:/etc/pin",
        )
        .unwrap();
        assert_eq!(uri.token.as_deref(), Some("My Token"));
        assert_eq!(uri.id.as_deref(), Some(&[1, 255][..]));
        assert_eq!(uri.slot_id, Some(3));
        assert_eq!(uri.module, PathBuf::from("/usr/lib/m.so"));
        assert_eq!(uri.pin, Pin::File("/etc/pin".into()));
        let uri = KeyUri::parse("pkcs11:object=k?pin-value=12%26&module-path=/m.so").unwrap();
        assert_eq!(uri.pin, Pin::Value("12&".into()));
        assert!(!format!("{uri:?}").contains("12&"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, reason) in [
            ("pkcs11:object=k", "module-path"),
            ("pkcs11:token=t?module-path=/m", "which key"),
            ("pkcs11:object=k;object=l?module-path=/m", "twice"),
            ("pkcs11:object=k?module-path=m", "absolute"),
            ("pkcs11:object=k;type=public?module-path=/m", "private"),
            ("pkcs11:object=k;x-vendor=1?module-path=/m", "not supported"),
            (
                "pkcs11:object=k?module-path=/m&module-name=x",
                "not supported",
            ),
            ("pkcs11:object=%4?module-path=/m", "hex digits"),
            ("pkcs11:object?module-path=/m", "NAME=VALUE"),
            (
                "pkcs11:object=k?module-path=/m&pin-value=1&pin-source=/p",
                "exclude",
            ),
        ] {
            let error = KeyUri::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(pkcs11:)?[ -~]{0,80}") {
            let _ = KeyUri::parse(&text);
        }
    }
}
