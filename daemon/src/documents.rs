//! `policies.d` and `rules.d`: read whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use iotedge_identity::check_policy_name;
use iotedge_policy::{PolicyDocument, PolicyError};
use iotedge_rules::{Rule, check_rules, load_dir};

use crate::config::Config;

/// What stands beside the configuration.
pub struct Documents {
    /// Policies by name, with their texts.
    pub policies: Vec<(String, String)>,
    /// Rules.
    pub rules: Vec<Rule>,
}

/// Reads both folders.
///
/// # Errors
/// A line for each thing that is wrong: `FILE:LINE: KEY: REASON`.
pub fn read(config: &Config) -> Result<Documents, Vec<String>> {
    let mut problems = Vec::new();
    let policies = policies(&config.policies_dir, &mut problems);
    let rules = match load_dir(&config.rules_dir) {
        Ok(rules) => {
            let misfits = check_rules(&rules, &crate::house::facilities(config));
            problems.extend(misfits.iter().map(ToString::to_string));
            rules
        }
        Err(errors) => {
            problems.extend(errors.iter().map(ToString::to_string));
            Vec::new()
        }
    };
    if problems.is_empty() {
        Ok(Documents { policies, rules })
    } else {
        Err(problems)
    }
}

fn policies(folder: &Path, problems: &mut Vec<String>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in json_files(folder, problems) {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                problems.push(format!("{}: {error}", file.display()));
                continue;
            }
        };
        match PolicyDocument::parse(&text) {
            Ok(_) => {
                let name = file
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                match check_policy_name(&name) {
                    Ok(()) => found.push((name, text)),
                    Err(error) => problems.push(format!("{}: {error}", file.display())),
                }
            }
            Err(error) => {
                let (line, column) = error.position(&text);
                // The error's own words repeat the position where JSON itself is wrong.
                let reason = match &error {
                    PolicyError::Json { reason, .. } => reason.clone(),
                    other => other.to_string(),
                };
                problems.push(format!("{}:{line}:{column}: {reason}", file.display()));
            }
        }
    }
    found
}

fn json_files(folder: &Path, problems: &mut Vec<String>) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(format!("{}: {error}", folder.display()));
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => files.push(entry.path()),
            Err(error) => problems.push(format!("{}: {error}", folder.display())),
        }
    }
    files.retain(|file| file.extension().is_some_and(|e| e == "json"));
    files.sort();
    files
}
