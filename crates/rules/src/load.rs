//! Rules from files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Rule;
use crate::document::{RuleError, RuleProblem, parse_rule};

/// Reads every `*.json` of a directory; the file's name is the rule's. A directory that is not
/// there has no rules. Nothing is half loaded: one error, and there are only errors, all of them.
pub fn load_dir(path: &Path) -> Result<Vec<Rule>, Vec<RuleError>> {
    let files = match files_of(path) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let problem = RuleProblem::Unreadable(error.to_string());
            return Err(vec![RuleError::of_file(path, problem)]);
        }
    };
    let mut rules = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        match load_file(&file) {
            Ok(rule) => rules.push(rule),
            Err(mut found) => errors.append(&mut found),
        }
    }
    if errors.is_empty() {
        Ok(rules)
    } else {
        Err(errors)
    }
}

/// Reads one file.
pub fn load_file(file: &Path) -> Result<Rule, Vec<RuleError>> {
    let text = fs::read_to_string(file).map_err(|error| {
        let problem = RuleProblem::Unreadable(error.to_string());
        vec![RuleError::of_file(file, problem)]
    })?;
    let name = file.file_stem().and_then(|n| n.to_str()).unwrap_or("");
    parse_rule(name, &file.display().to_string(), &text)
}

/// The files in name order, editors' hidden ones left out.
fn files_of(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let hidden = file
            .file_name()
            .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if !hidden && file.extension().is_some_and(|e| e == "json") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
