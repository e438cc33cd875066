//! Tokens to a [`Statement`].

mod expression;
mod statement;

use crate::ast::Expr;
use crate::lexer::{Lexer, Spanned, Token};
use crate::{SqlError, SqlErrorKind, SqlVersion};

/// Longest statement or template that is read, in bytes (the guide's limit for a rule's SQL).
pub(crate) const MAX_TEXT: usize = 256 * 1024;
/// Deepest nesting of expressions: each level costs stack while parsing and evaluating.
pub(crate) const MAX_DEPTH: usize = 64;

/// An expression of a template.
pub(crate) struct TemplateExpression {
    pub(crate) expr: Expr,
    /// At which byte the text goes on.
    pub(crate) end: usize,
    /// The names of its variables.
    pub(crate) variables: Vec<String>,
}

/// The state of parsing one text.
#[derive(Clone)]
pub(crate) struct Parser<'t> {
    lexer: Lexer<'t>,
    current: Spanned,
    /// Where the last token that was taken ended.
    last_end: usize,
    version: SqlVersion,
    depth: usize,
    warnings: Vec<String>,
    /// The variables that have a value so far; `None` in a template.
    variables: Option<Vec<String>>,
    /// The variables that a template uses.
    used: Vec<String>,
    /// The last function that asks something outside.
    external: Option<&'static str>,
    /// The clause that is read.
    clause: &'static str,
    /// Every part of the statement, for [`crate::explain`]; `None` if nobody asks.
    traced: Option<Vec<Traced>>,
}

/// A part of a statement.
#[derive(Debug, Clone)]
pub(crate) struct Traced {
    pub(crate) clause: &'static str,
    /// Its first byte, and the one behind its last.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) expr: Expr,
}

impl<'t> Parser<'t> {
    /// Starts at byte `at` of `text`.
    pub(crate) fn new(text: &'t str, at: usize, version: SqlVersion) -> Result<Self, SqlError> {
        let mut lexer = Lexer::new(text, at);
        if text.len() > MAX_TEXT {
            return Err(lexer.error(0, SqlErrorKind::TooLong(MAX_TEXT)));
        }
        let current = lexer.next()?;
        Ok(Self {
            lexer,
            current,
            last_end: at,
            version,
            depth: 0,
            warnings: Vec::new(),
            variables: None,
            used: Vec::new(),
            external: None,
            clause: "",
            traced: None,
        })
    }

    /// Notes every part from here on.
    pub(crate) fn trace(&mut self) {
        self.traced = Some(Vec::new());
    }

    /// Notes a part that ends here.
    fn note(&mut self, start: usize, expr: &Expr) {
        let (clause, end) = (self.clause, self.last_end);
        if let Some(traced) = &mut self.traced {
            traced.push(Traced {
                clause,
                start,
                end,
                expr: expr.clone(),
            });
        }
    }

    fn peek(&self) -> &Token {
        &self.current.token
    }

    fn take(&mut self) -> Result<Spanned, SqlError> {
        let next = self.lexer.next()?;
        let taken = std::mem::replace(&mut self.current, next);
        self.last_end = taken.end;
        Ok(taken)
    }

    fn take_if_word(&mut self, keyword: &str) -> Result<bool, SqlError> {
        let found = self.peek().is_word(keyword);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn take_if_symbol(&mut self, symbol: &str) -> Result<bool, SqlError> {
        let found = self.at_symbol(symbol);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn at_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(s) if *s == symbol)
    }

    fn require_symbol(&mut self, symbol: &str, expected: &'static str) -> Result<(), SqlError> {
        if self.take_if_symbol(symbol)? {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn require_word(&mut self, keyword: &str, expected: &'static str) -> Result<(), SqlError> {
        if self.take_if_word(keyword)? {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn expected(&self, expected: &'static str) -> SqlError {
        self.error(SqlErrorKind::Expected {
            expected,
            found: self.peek().describe(),
        })
    }

    /// An error at the current token.
    fn error(&self, reason: SqlErrorKind) -> SqlError {
        self.lexer.error(self.current.start, reason)
    }

    /// Counts one level of nesting around `parse`.
    fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error(SqlErrorKind::TooDeep(MAX_DEPTH)));
        }
        self.depth += 1;
        let out = parse(self);
        self.depth -= 1;
        out
    }

    /// The text between two bytes, as written.
    fn written(&self, start: usize, end: usize) -> &'t str {
        self.lexer.text().get(start..end).unwrap_or("").trim()
    }

    /// For a template: an expression that ends with `}`.
    pub(crate) fn template_expression(mut self) -> Result<TemplateExpression, SqlError> {
        let expr = self.expression()?;
        if !self.at_symbol("}") {
            return Err(self.expected("'}'"));
        }
        Ok(TemplateExpression {
            expr,
            end: self.current.end,
            variables: self.used,
        })
    }
}
