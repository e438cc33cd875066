//! SELECT, FROM and WHERE.

use iotedge_model::TopicFilter;

use super::{Parser, Traced};
use crate::ast::{Expr, Item, Query, Select, Statement, Step};
use crate::lexer::Token;
use crate::variables::{MAX_NAME, MAX_VARIABLES};
use crate::{SqlError, SqlErrorKind, SqlVersion};

/// Words that end an item and so cannot name it.
const CLAUSES: [&str; 4] = ["SELECT", "FROM", "WHERE", "AS"];

impl Statement {
    /// Parses a rule's `sql` for `version`. The error says at which column.
    pub fn parse(sql: &str, version: SqlVersion) -> Result<Self, SqlError> {
        let (statement, _) = Parser::new(sql, 0, version)?.statement()?;
        Ok(statement)
    }
}

impl Parser<'_> {
    /// The whole statement, and its parts if they are traced.
    pub(crate) fn statement(self) -> Result<(Statement, Vec<Traced>), SqlError> {
        let mut parser = self;
        let version = parser.version;
        parser.clause = "SET";
        let variables = parser.set()?;
        let expected = if variables.is_empty() {
            "SELECT"
        } else {
            "',' or SELECT"
        };
        parser.require_word("SELECT", expected)?;
        parser.clause = "SELECT";
        let select = parser.select()?;
        let filter = if parser.take_if_word("FROM")? {
            Some(parser.topic_filter()?)
        } else {
            None
        };
        parser.clause = "WHERE";
        let condition = parser.condition()?;
        parser.take_if_symbol(";")?;
        if *parser.peek() != Token::End {
            return Err(parser.expected(match (&filter, &condition) {
                (None, None) => "',', FROM or WHERE",
                (_, None) => "WHERE or the end",
                _ => "an operator or the end",
            }));
        }
        let statement = Statement {
            version,
            variables,
            select,
            filter,
            condition,
            warnings: parser.warnings,
        };
        Ok((statement, parser.traced.unwrap_or_default()))
    }

    /// `SET @name = value, …`, if it is there (today's guide, "SET clause").
    fn set(&mut self) -> Result<Vec<(Box<str>, Expr)>, SqlError> {
        let mut variables: Vec<(Box<str>, Expr)> = Vec::new();
        self.variables = Some(Vec::new());
        if !self.take_if_word("SET")? {
            return Ok(variables);
        }
        loop {
            let Token::Variable(name) = self.peek().clone() else {
                return Err(self.expected("a variable, @name"));
            };
            if name.len() > MAX_NAME {
                return Err(self.error(SqlErrorKind::VariableName(MAX_NAME)));
            }
            if variables.iter().any(|(known, _)| **known == *name) {
                return Err(self.error(SqlErrorKind::VariableTwice(name)));
            }
            if variables.len() == MAX_VARIABLES {
                return Err(self.error(SqlErrorKind::TooManyVariables(MAX_VARIABLES)));
            }
            let start = self.current.start;
            self.take()?;
            self.require_symbol("=", "'='")?;
            let value = self.payload_or_expression()?;
            self.note(start, &Expr::Variable(name.as_str().into()));
            variables.push((name.as_str().into(), value));
            // Only what follows can use it.
            self.variables.get_or_insert_default().push(name);
            if !self.take_if_symbol(",")? {
                return Ok(variables);
            }
        }
    }

    /// A nested query, behind its SELECT.
    pub(super) fn query(&mut self) -> Result<Query, SqlError> {
        // Its parts have a value for each element.
        let traced = self.traced.take();
        let select = self.select()?;
        self.require_word("FROM", "',' or FROM")?;
        let source = self.source()?;
        let condition = self.condition()?;
        self.traced = traced;
        Ok(Query {
            select,
            source,
            condition,
        })
    }

    fn condition(&mut self) -> Result<Option<Expr>, SqlError> {
        if self.take_if_word("WHERE")? {
            self.expression().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The items, behind SELECT.
    fn select(&mut self) -> Result<Select, SqlError> {
        if self.peek().is_word("VALUE") {
            let mut ahead = self.clone();
            ahead.take()?;
            if ahead.begins_expression() {
                *self = ahead;
                let item = self.item()?;
                if self.at_symbol(",") {
                    return Err(self.error(SqlErrorKind::ValueTakesOne));
                }
                return Ok(Select::Value(item));
            }
        }
        let mut items = vec![self.item()?];
        while self.take_if_symbol(",")? {
            items.push(self.item()?);
        }
        Ok(Select::Items(items))
    }

    /// Whether VALUE here is the keyword and not an attribute of that name.
    fn begins_expression(&self) -> bool {
        match self.peek() {
            Token::Word(word) => ["FROM", "AS", "AND", "OR", "WHERE"]
                .iter()
                .all(|k| !word.eq_ignore_ascii_case(k)),
            Token::Text { .. } | Token::Number(_) | Token::Variable(_) => true,
            Token::Symbol(symbol) => matches!(*symbol, "(" | "[" | "{" | "-" | "*"),
            Token::End => false,
        }
    }

    fn item(&mut self) -> Result<Item, SqlError> {
        let start = self.current.start;
        if self.take_if_symbol("*")? {
            self.note(start, &Expr::Payload);
            return Ok(match self.alias()? {
                Some(key) => Item::StarAs(key),
                None => Item::Star,
            });
        }
        let expr = self.expression()?;
        self.note(start, &expr);
        if self.spreads()? {
            self.take()?;
            self.take()?;
            return Ok(Item::Spread(expr));
        }
        let written = self.written(start, self.last_end);
        let key = match (self.alias()?, &expr) {
            (Some(key), _) => key,
            // The last name of a path (amb-sql-055).
            (None, Expr::Attribute(name)) => vec![name.clone()],
            (None, Expr::Path(_, steps)) => match steps.last() {
                Some(Step::Name(name)) => vec![name.clone()],
                _ => vec![written.to_owned()],
            },
            // The expression as written (amb-sql-056).
            (None, _) => {
                self.warnings.push(format!(
                    "{written} has no AS, so the output has it under its own text"
                ));
                vec![written.to_owned()]
            }
        };
        Ok(Item::Expr { expr, key })
    }

    /// `AS name` or `AS name.name`, which nests (amb-sql-053).
    fn alias(&mut self) -> Result<Option<Vec<String>>, SqlError> {
        if !self.take_if_word("AS")? {
            return Ok(None);
        }
        let mut key = Vec::new();
        loop {
            match self.peek() {
                Token::Word(word) if !CLAUSES.iter().any(|k| word.eq_ignore_ascii_case(k)) => {
                    key.push(word.clone());
                    self.take()?;
                }
                _ => return Err(self.expected("a name")),
            }
            if !self.take_if_symbol(".")? {
                return Ok(Some(key));
            }
        }
    }

    /// `'filter'` or `mqtt('filter')` (amb-sql-060).
    fn topic_filter(&mut self) -> Result<TopicFilter, SqlError> {
        let call = self.peek().is_word("mqtt");
        if call {
            self.take()?;
            self.require_symbol("(", "'('")?;
        }
        let at = self.current.start;
        let text = match self.peek() {
            Token::Text {
                value,
                single: true,
            } => value.clone(),
            Token::End => return Err(self.expected("a topic filter in single quotes")),
            _ => return Err(self.error(SqlErrorKind::FilterQuotes)),
        };
        self.take()?;
        if call {
            self.require_symbol(")", "')'")?;
        }
        TopicFilter::new(&text).map_err(|e| self.lexer.error(at, SqlErrorKind::Filter(e)))
    }

    /// What a nested query reads: an attribute's path.
    fn source(&mut self) -> Result<Expr, SqlError> {
        let at = self.current.start;
        let source = self.postfix()?;
        let base = match &source {
            Expr::Path(base, _) => base,
            other => other,
        };
        if !matches!(base, Expr::Attribute(_) | Expr::Variable(_)) {
            return Err(self.lexer.error(
                at,
                SqlErrorKind::Expected {
                    expected: "an attribute to query",
                    found: self.written(at, self.last_end).to_owned(),
                },
            ));
        }
        Ok(source)
    }
}
