//! Where in a document's text an error is, for people who have to find it there.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::PolicyError;

impl PolicyError {
    /// Line and column, from 1, of what the error is about in `text`, the document that was refused:
    /// the value of the member it names, or what is nearest around it.
    pub fn position(&self, text: &str) -> (usize, usize) {
        match self {
            Self::Json { line, column, .. } => (*line, *column),
            Self::TooLong { .. } => (1, 1),
            Self::Document { field, .. } => {
                position(text, member(text, field).unwrap_or(text.trim()))
            }
            Self::Statement {
                statement, field, ..
            } => {
                let part = nth_statement(text, *statement)
                    .map(|found| member(found, first_name(field)).unwrap_or(found));
                position(text, part.unwrap_or(text.trim()))
            }
        }
    }
}

/// `Condition` of `Condition.StringEquals`.
fn first_name(field: &str) -> &str {
    field.split(['.', '[', ' ']).next().unwrap_or(field)
}

fn member<'t>(object: &'t str, name: &str) -> Option<&'t str> {
    let members: BTreeMap<String, &'t RawValue> = serde_json::from_str(object).ok()?;
    members.get(name).map(|value| value.get())
}

fn nth_statement(text: &str, number: usize) -> Option<&str> {
    let statements = member(text, "Statement")?;
    if !statements.starts_with('[') {
        return Some(statements);
    }
    let all: Vec<&RawValue> = serde_json::from_str(statements).ok()?;
    all.get(number.checked_sub(1)?).map(|value| value.get())
}

/// `part` is a part of `text`.
fn position(text: &str, part: &str) -> (usize, usize) {
    let offset = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use crate::PolicyDocument;

    fn place(text: &str) -> (usize, usize) {
        PolicyDocument::parse(text).unwrap_err().position(text)
    }

    #[test]
    fn an_error_points_at_the_member_it_is_about() {
        assert_eq!(
            place("{\n \"Version\": \"2012-10-17\",\n \"Statement\": 5 }"),
            (3, 15)
        );
        let statement = |rest: &str| {
            format!(
                "{{ \"Version\": \"2012-10-17\", \"Statement\": [\n  {{ \"Effect\": \"Allow\", \
                 \"Action\": \"iot:Connect\", \"Resource\": \"*\" }},\n  {{ {rest} }} ] }}"
            )
        };
        let wrong = "\"Effect\": \"Perhaps\", \"Action\": \"iot:Connect\", \"Resource\": \"*\"";
        assert_eq!(place(&statement(wrong)), (3, 15));
        let missing = "\"Effect\": \"Allow\", \"Action\": \"iot:Connect\"";
        assert_eq!(place(&statement(missing)), (3, 3));
        assert_eq!(place("{\n\n x"), (3, 2));
        assert_eq!(place("\n  []"), (2, 3));
    }
}
