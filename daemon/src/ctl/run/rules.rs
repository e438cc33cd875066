//! `iotedgectl rule`.

use std::path::Path;

use super::super::args::{Rule, RuleArg};
use super::super::protocol::{self as p, Request};
use super::super::{CtlError, offline, show};
use super::Session;

impl Session<'_> {
    pub(super) fn rule(&mut self, command: &Rule) -> Result<(), CtlError> {
        let named = |rule: &RuleArg| p::Rule {
            name: rule.name.clone(),
        };
        match command {
            Rule::Create { name, file } => self.put_rule(name, file, false),
            Rule::Replace { name, file } => self.put_rule(name, file, true),
            Rule::List => self.ask_and_list(&Request::RuleList, show::rules),
            Rule::Show(rule) => self.ask_and_show(&Request::RuleShow(named(rule)), show::rule),
            Rule::Enable(rule) => {
                self.ask_and_show(&Request::RuleEnable(named(rule)), show::rule_state)
            }
            Rule::Disable(rule) => {
                self.ask_and_show(&Request::RuleDisable(named(rule)), show::rule_state)
            }
            Rule::Delete(rule) => self.ask_and_say(&Request::RuleDelete(named(rule)), "deleted"),
            Rule::Test(test) => offline::test_rule(test, self.json, self.out),
        }
    }

    fn put_rule(&mut self, name: &str, file: &Path, replace: bool) -> Result<(), CtlError> {
        let request = Request::RuleCreate(p::RuleCreate {
            name: name.to_owned(),
            document: offline::read_text(file)?,
            replace,
        });
        self.ask_and_show(&request, show::rule_state)
    }
}
