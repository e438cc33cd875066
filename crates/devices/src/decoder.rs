//! Lines to payloads.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json};

/// What a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// UTF-8 text, published as it is.
    #[default]
    Text,
    /// A JSON document, published as it is if it is one.
    Json,
    /// Columns, published as a JSON object.
    Csv,
}

/// Why a line is not published. Each is counted by its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reject {
    /// Longer than `max_line_bytes`.
    TooLong,
    /// Not UTF-8.
    NotUtf8,
    /// `format = "json"` and no JSON document.
    NotJson,
    /// `format = "csv"` and another number of columns, or quotes that do not close.
    Columns,
    /// Nothing in it.
    Empty,
    /// The names of the columns (`csv_header`).
    Header,
    /// Begun when the port went away or the daemon stopped.
    Cut,
}

impl Reject {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::TooLong,
        Self::NotUtf8,
        Self::NotJson,
        Self::Columns,
        Self::Empty,
        Self::Header,
        Self::Cut,
    ];

    /// The name in status and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::NotUtf8 => "not-utf8",
            Self::NotJson => "not-json",
            Self::Columns => "columns",
            Self::Empty => "empty",
            Self::Header => "header",
            Self::Cut => "cut",
        }
    }
}

/// Makes payloads of lines.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// What a line holds.
    pub format: Format,
    /// The members' names, for CSV.
    pub columns: Vec<String>,
    /// Between columns, for CSV.
    pub separator: char,
    /// Skip lines that repeat the columns' names, for CSV.
    pub header: bool,
}

impl Decoder {
    /// The payload, or why there is none.
    ///
    /// A CSV column that is spelled as a JSON number becomes one and keeps its spelling; every
    /// other column, and every column in quotes, becomes a string.
    pub fn decode(&self, line: &[u8]) -> Result<Bytes, Reject> {
        let text = std::str::from_utf8(line).map_err(|_| Reject::NotUtf8)?;
        if text.trim().is_empty() {
            return Err(Reject::Empty);
        }
        match self.format {
            Format::Text => Ok(Bytes::copy_from_slice(line)),
            Format::Json => match serde_json::from_str::<IgnoredAny>(text) {
                Ok(IgnoredAny) => Ok(Bytes::copy_from_slice(line)),
                Err(_) => Err(Reject::NotJson),
            },
            Format::Csv => self.csv(text),
        }
    }

    fn csv(&self, text: &str) -> Result<Bytes, Reject> {
        let fields = split(text, self.separator).ok_or(Reject::Columns)?;
        if fields.len() != self.columns.len() {
            return Err(Reject::Columns);
        }
        if self.header && fields.iter().zip(&self.columns).all(|(f, c)| f.text == *c) {
            return Err(Reject::Header);
        }
        let object: Map<String, Json> = self
            .columns
            .iter()
            .zip(fields)
            .map(|(column, field)| (column.clone(), field.into_json()))
            .collect();
        Ok(Bytes::from(Json::Object(object).to_string()))
    }
}

struct Field {
    text: String,
    quoted: bool,
}

impl Field {
    fn into_json(self) -> Json {
        if !self.quoted {
            if let Ok(number) = self.text.parse() {
                return Json::Number(number);
            }
        }
        Json::String(self.text)
    }
}

/// One record of RFC 4180, blanks around unquoted columns taken off; `None` if a quote does not
/// close or something follows it.
fn split(text: &str, separator: char) -> Option<Vec<Field>> {
    let mut out = Vec::new();
    let mut rest = Some(text);
    while let Some(field) = rest {
        let unblanked = field.trim_start_matches([' ', '\t']);
        let Some(quoted) = unblanked.strip_prefix('"') else {
            let (text, after) = match field.split_once(separator) {
                Some((text, after)) => (text, Some(after)),
                None => (field, None),
            };
            out.push(Field {
                text: text.trim().to_owned(),
                quoted: false,
            });
            rest = after;
            continue;
        };
        let (text, after) = unquote(quoted)?;
        out.push(Field { text, quoted: true });
        let after = after.trim_start_matches(|c| (c == ' ' || c == '\t') && c != separator);
        rest = if after.is_empty() {
            None
        } else {
            Some(after.strip_prefix(separator)?)
        };
    }
    Some(out)
}

/// Behind an opening quote: the column, and what follows its closing quote.
fn unquote(mut rest: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        text.push_str(part);
        match after.strip_prefix('"') {
            Some(doubled) => {
                text.push('"');
                rest = doubled;
            }
            None => return Some((text, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(columns: &[&str], header: bool) -> Decoder {
        Decoder {
            format: Format::Csv,
            columns: columns.iter().map(|&c| c.to_owned()).collect(),
            separator: ',',
            header,
        }
    }

    fn shown(decoder: &Decoder, line: &str) -> String {
        match decoder.decode(line.as_bytes()) {
            Ok(payload) => String::from_utf8_lossy(&payload).into_owned(),
            Err(reject) => reject.as_str().to_owned(),
        }
    }

    #[test]
    fn columns_become_members_and_numbers_keep_their_spelling() {
        let decoder = csv(&["id", "t", "unit", "note"], false);
        assert_eq!(
            shown(&decoder, "s1, 21.50 ,C,\"a \"\"b\"\", c\""),
            r#"{"id":"s1","t":21.50,"unit":"C","note":"a \"b\", c"}"#
        );
        assert_eq!(
            shown(&decoder, "007,-1.0e-3,\"5\","),
            r#"{"id":"007","t":-1.0e-3,"unit":"5","note":""}"#
        );
        assert_eq!(
            shown(&decoder, "NaN,+5,.5,1."),
            r#"{"id":"NaN","t":"+5","unit":".5","note":"1."}"#
        );
    }

    #[test]
    fn a_record_of_another_shape_is_rejected() {
        let decoder = csv(&["a", "b"], true);
        for line in ["1", "1,2,3", "\"1,2", "\"1\"x,2"] {
            assert_eq!(shown(&decoder, line), "columns", "{line}");
        }
        assert_eq!(shown(&decoder, "a,b"), "header");
        assert_eq!(shown(&decoder, " \t"), "empty");
    }

    #[test]
    fn json_passes_as_it_is_or_not_at_all() {
        let decoder = Decoder {
            format: Format::Json,
            ..csv(&[], false)
        };
        assert_eq!(shown(&decoder, "{ \"a\" : 1.0 }"), "{ \"a\" : 1.0 }");
        for line in ["{\"a\":1", "{} {}", "garbage", "\u{0}"] {
            assert_eq!(shown(&decoder, line), "not-json", "{line:?}");
        }
    }

    #[test]
    fn text_is_utf8() {
        let decoder = Decoder {
            format: Format::Text,
            ..csv(&[], false)
        };
        assert_eq!(shown(&decoder, " 21.5 °C "), " 21.5 °C ");
        assert_eq!(decoder.decode(&[0x31, 0xff]), Err(Reject::NotUtf8));
        assert_eq!(decoder.decode(b""), Err(Reject::Empty));
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics_and_csv_is_always_json(line in proptest::collection::vec(proptest::num::u8::ANY, 0..60), text in "[a-z0-9,\" .+-]{0,30}") {
            for decoder in [csv(&["a", "b"], true), csv(&["a"], false)] {
                for line in [line.as_slice(), text.as_bytes()] {
                    if let Ok(payload) = decoder.decode(line) {
                        proptest::prop_assert!(serde_json::from_slice::<Json>(&payload).is_ok());
                    }
                }
            }
        }
    }
}
