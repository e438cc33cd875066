//! Text to tokens, one at a time: a template's expression ends at its `}`, and what follows is
//! not SQL.

use crate::decimal::Decimal;
use crate::{SqlError, SqlErrorKind};

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A name or keyword, as written.
    Word(String),
    /// A string, its quotes taken off.
    Text {
        /// What it says.
        value: String,
        /// Whether it stood in single quotes.
        single: bool,
    },
    /// A number.
    Number(Decimal),
    /// `@name`, without the `@`.
    Variable(String),
    /// An operator or bracket.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

impl Token {
    /// Whether it is this keyword; letter case does not count.
    pub(crate) fn is_word(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// For "found …".
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Text { value, .. } => format!("the string {value:?}"),
            Self::Number(number) => format!("the number {number}"),
            Self::Variable(name) => format!("@{name}"),
            Self::Symbol(symbol) => format!("'{symbol}'"),
            Self::End => "the end".into(),
        }
    }
}

/// A token with its place in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spanned {
    pub(crate) token: Token,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

const SYMBOLS: [&str; 21] = [
    "<>", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", "[", "]", "{", "}", ",",
    ".", ":", ";",
];

/// Reads tokens from `text`, from byte `at`.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(text: &'t str, at: usize) -> Self {
        Self { text, at }
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &'t str {
        self.text
    }

    /// An error at byte `at`.
    pub(crate) fn error(&self, at: usize, reason: SqlErrorKind) -> SqlError {
        let before = self.text.get(..at).unwrap_or(self.text);
        SqlError {
            column: before.chars().count() + 1,
            reason,
        }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or("")
    }

    /// The next token.
    pub(crate) fn next(&mut self) -> Result<Spanned, SqlError> {
        self.take_while(char::is_whitespace);
        let start = self.at;
        let token = match self.rest().chars().next() {
            None => Token::End,
            Some(quote @ ('\'' | '"')) => self.string(quote)?,
            Some(c) if c.is_ascii_digit() => self.number()?,
            Some('@') => {
                self.at += 1;
                // "Letters, numbers, and underscores" (today's guide, "SET clause").
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                match self.take_while(is_part) {
                    "" => return Err(self.error(start, SqlErrorKind::Character('@'))),
                    name => Token::Variable(name.into()),
                }
            }
            Some(c) if c.is_alphabetic() || c == '_' => {
                let is_part = |c: char| c.is_alphanumeric() || c == '_';
                Token::Word(self.take_while(is_part).into())
            }
            Some(c) => match SYMBOLS.iter().find(|s| self.rest().starts_with(**s)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    Token::Symbol(symbol)
                }
                None => return Err(self.error(start, SqlErrorKind::Character(c))),
            },
        };
        Ok(Spanned {
            token,
            start,
            end: self.at,
        })
    }

    /// A string in either quotes; a doubled quote stands for itself.
    fn string(&mut self, quote: char) -> Result<Token, SqlError> {
        let start = self.at;
        let mut value = String::new();
        self.at += quote.len_utf8();
        loop {
            value.push_str(self.take_while(|c| c != quote));
            if self.rest().is_empty() {
                return Err(self.error(start, SqlErrorKind::UnclosedString(quote)));
            }
            self.at += quote.len_utf8();
            if !self.rest().starts_with(quote) {
                break;
            }
            value.push(quote);
            self.at += quote.len_utf8();
        }
        Ok(Token::Text {
            value,
            single: quote == '\'',
        })
    }

    /// Digits with a fraction and an exponent. A word right behind it is an error, not the next
    /// token.
    fn number(&mut self) -> Result<Token, SqlError> {
        let start = self.at;
        let is_digit = |c: char| c.is_ascii_digit();
        self.take_while(is_digit);
        let after_dot = self.rest().strip_prefix('.').unwrap_or("");
        if after_dot.starts_with(is_digit) {
            self.at += 1;
            self.take_while(is_digit);
        }
        if let Some(exponent) = self.rest().strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if unsigned.starts_with(is_digit) {
                self.at += 1 + (exponent.len() - unsigned.len());
                self.take_while(is_digit);
            }
        }
        if let Some(c) = self
            .rest()
            .chars()
            .next()
            .filter(|c| c.is_alphabetic() || *c == '_')
        {
            return Err(self.error(self.at, SqlErrorKind::Character(c)));
        }
        let text = self.text.get(start..self.at).unwrap_or("");
        Decimal::parse_json(text)
            .map(Token::Number)
            .ok_or_else(|| self.error(start, SqlErrorKind::Number))
    }
}
