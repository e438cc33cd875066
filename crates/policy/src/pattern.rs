//! Patterns: text with `*`, `?` and variables, compiled once.
//!
//! A pattern is cut at each `*` into chunks. The first chunk must stand at the beginning of the
//! text, the last at its end, the others are looked for from left to right, each at its first place:
//! an earlier place never hurts what follows, so nothing is tried twice, and the time grows with the
//! pattern plus the text.

use crate::Problem;
use crate::context::Context;
use crate::pairs::Pairs;
use crate::search;
use crate::variable::Variable;

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(Box<str>),
    /// `?`: one character.
    One,
    Variable(Variable),
}

type Chunk = Box<[Piece]>;

/// Whether `*` and `?` are wildcards in a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wildcards {
    Yes,
    No,
}

/// The outcome of matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Yes,
    No,
    /// A variable has no value.
    Unresolved,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pattern {
    source: Box<str>,
    /// At least one; between each two stood a `*`.
    chunks: Box<[Chunk]>,
    variables: bool,
}

struct Builder {
    chunks: Vec<Chunk>,
    pieces: Vec<Piece>,
    text: String,
}

impl Builder {
    fn new() -> Self {
        Self {
            chunks: Vec::new(),
            pieces: Vec::new(),
            text: String::new(),
        }
    }
    fn flush(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.pieces.push(Piece::Text(text.into()));
        }
    }
    fn piece(&mut self, piece: Piece) {
        self.flush();
        self.pieces.push(piece);
    }
    fn star(&mut self) {
        self.flush();
        self.chunks.push(std::mem::take(&mut self.pieces).into());
    }
    fn finish(mut self) -> Box<[Chunk]> {
        self.star();
        self.chunks.into()
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ":._-[]@#".contains(c))
}

impl Pattern {
    pub(crate) fn parse(source: &str, wildcards: Wildcards) -> Result<Self, Problem> {
        let mut builder = Builder::new();
        let mut variables = false;
        let mut rest = source;
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("${") {
                let (name, behind) =
                    after.split_once('}').ok_or_else(|| Problem::OpenVariable {
                        found: source.to_owned(),
                    })?;
                match name {
                    "*" | "?" | "$" => builder.text.push_str(name),
                    _ if is_variable_name(name) => {
                        variables = true;
                        builder.piece(Piece::Variable(Variable::parse(name)));
                    }
                    _ => return Err(Problem::VariableName { name: name.into() }),
                }
                rest = behind;
                continue;
            }
            match (c, wildcards) {
                ('*', Wildcards::Yes) => builder.star(),
                ('?', Wildcards::Yes) => builder.piece(Piece::One),
                _ => builder.text.push(c),
            }
            rest = rest.get(c.len_utf8()..).unwrap_or("");
        }
        Ok(Self {
            source: source.into(),
            chunks: builder.finish(),
            variables,
        })
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.chunks
            .iter()
            .flatten()
            .filter_map(|piece| match piece {
                Piece::Variable(variable) => Some(variable),
                _ => None,
            })
    }

    /// Each with its name as written.
    pub(crate) fn named_variables(&self) -> impl Iterator<Item = (&Variable, &str)> {
        let names = self.source.split("${").skip(1).filter_map(|after| {
            let (name, _) = after.split_once('}')?;
            (!matches!(name, "*" | "?" | "$")).then_some(name)
        });
        self.variables().zip(names)
    }

    fn is_resolved(&self, context: &Context<'_>) -> bool {
        !self.variables || self.variables().all(|v| v.text(context).is_some())
    }

    /// What every text that it matches begins with, whatever its variables are.
    pub(crate) fn begin(&self) -> &str {
        match self.chunks.first().and_then(|chunk| chunk.first()) {
            Some(Piece::Text(begin)) => begin,
            _ => "",
        }
    }

    /// What every text that it matches has in it, whatever its variables are.
    pub(crate) fn pairs(&self) -> Pairs {
        self.chunks
            .iter()
            .flatten()
            .fold(Pairs::NONE, |all, piece| match piece {
                Piece::Text(text) => all.and(Pairs::of(text)),
                Piece::One | Piece::Variable(_) => all,
            })
    }

    pub(crate) fn matches(&self, text: &str, context: &Context<'_>) -> Match {
        if !self.is_resolved(context) {
            Match::Unresolved
        } else if matches_chunks(&self.chunks, text, context) {
            Match::Yes
        } else {
            Match::No
        }
    }

    /// Whether it matches with the values that there are: a variable without one matches nothing.
    pub(crate) fn matches_now(&self, text: &str, context: &Context<'_>) -> bool {
        matches_chunks(&self.chunks, text, context)
    }

    /// Whether some value of the variables that have none would make it match.
    pub(crate) fn may_match(&self, text: &str, context: &Context<'_>) -> bool {
        if self.is_resolved(context) {
            return matches_chunks(&self.chunks, text, context);
        }
        let mut builder = Builder::new();
        for (i, chunk) in self.chunks.iter().enumerate() {
            if i > 0 {
                builder.star();
            }
            for piece in chunk {
                match piece {
                    Piece::Variable(v) => match v.text(context) {
                        Some(value) => builder.text.push_str(&value),
                        None => builder.star(),
                    },
                    Piece::Text(t) => builder.text.push_str(t),
                    Piece::One => builder.piece(Piece::One),
                }
            }
        }
        matches_chunks(&builder.finish(), text, context)
    }

    /// With the variables' values in place; wildcards stay. `None` when one has no value.
    pub(crate) fn fill(&self, context: &Context<'_>) -> Option<String> {
        self.is_resolved(context).then(|| self.show(context))
    }

    /// With the values that there are.
    pub(crate) fn show(&self, context: &Context<'_>) -> String {
        if !self.variables {
            return self.source.clone().into();
        }
        let mut out = String::new();
        for (i, chunk) in self.chunks.iter().enumerate() {
            if i > 0 {
                out.push('*');
            }
            for piece in chunk {
                match piece {
                    Piece::Text(t) => out.push_str(t),
                    Piece::One => out.push('?'),
                    Piece::Variable(v) => match v.text(context) {
                        Some(value) => out.push_str(&value),
                        None => out.push_str("<no value>"),
                    },
                }
            }
        }
        out
    }
}

fn matches_chunks(chunks: &[Chunk], text: &str, context: &Context<'_>) -> bool {
    let Some((first, others)) = chunks.split_first() else {
        return text.is_empty();
    };
    let Some(mut rest) = strip_start(first, text, context) else {
        return false;
    };
    let Some((last, middle)) = others.split_last() else {
        return rest.is_empty();
    };
    for chunk in middle {
        match find(chunk, rest, context) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    strip_end(last, rest, context)
}

/// What follows `chunk` when `text` begins with it.
fn strip_start<'t>(chunk: &[Piece], text: &'t str, context: &Context<'_>) -> Option<&'t str> {
    let mut rest = text;
    for piece in chunk {
        rest = match piece {
            Piece::Text(t) => rest.strip_prefix(&**t)?,
            Piece::One => {
                let mut chars = rest.chars();
                chars.next()?;
                chars.as_str()
            }
            Piece::Variable(v) => rest.strip_prefix(&*v.text(context)?)?,
        };
    }
    Some(rest)
}

/// Whether `text` ends with `chunk`.
fn strip_end(chunk: &[Piece], text: &str, context: &Context<'_>) -> bool {
    let mut rest = text;
    for piece in chunk.iter().rev() {
        let before = match piece {
            Piece::Text(t) => rest.strip_suffix(&**t),
            Piece::One => {
                let mut chars = rest.chars();
                chars.next_back().map(|_| chars.as_str())
            }
            Piece::Variable(v) => v.text(context).and_then(|value| rest.strip_suffix(&*value)),
        };
        match before {
            Some(before) => rest = before,
            None => return false,
        }
    }
    true
}

/// What follows the first place of `chunk` in `text`. Nothing of `text` is looked at twice but for
/// what follows it.
fn find<'t>(chunk: &[Piece], text: &'t str, context: &Context<'_>) -> Option<&'t str> {
    match chunk {
        [] => Some(text),
        [Piece::Text(part)] => search::after_first_str(part, text),
        [Piece::Variable(v)] => search::after_first_str(&v.text(context)?, text),
        pieces if pieces.iter().any(|p| matches!(p, Piece::One)) => {
            let mut units = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::One => units.push(None),
                    Piece::Text(part) => units.extend(part.chars().map(Some)),
                    Piece::Variable(v) => units.extend(v.text(context)?.chars().map(Some)),
                }
                if units.len() > text.len() {
                    return None;
                }
            }
            search::after_first_units(&units, text)
        }
        pieces => {
            let mut part = String::new();
            for piece in pieces {
                match piece {
                    Piece::Text(text) => part.push_str(text),
                    Piece::Variable(v) => part.push_str(&v.text(context)?),
                    Piece::One => {}
                }
            }
            search::after_first_str(&part, text)
        }
    }
}
