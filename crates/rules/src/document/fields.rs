//! An action's object, key by key.

use std::time::Duration;

use iotedge_sql::{SqlVersion, Template};

use super::read::Node;
use super::{Reader, RuleProblem};

/// An object being read.
pub(super) struct Fields<'r, 't> {
    pub(super) reader: &'r mut Reader<'t>,
    node: Node<'t>,
    members: Vec<(String, Node<'t>)>,
    pub(super) version: SqlVersion,
}

impl<'r, 't> Fields<'r, 't> {
    /// `None` for what is no object. Keys that are not in `known` (a list for people) are reported.
    pub(super) fn open(
        reader: &'r mut Reader<'t>,
        node: &Node<'t>,
        known: &'static str,
        version: SqlVersion,
    ) -> Option<Self> {
        let members = reader.members(node)?;
        for (key, member) in &members {
            if !known.split(", ").any(|k| k == key) {
                reader.report(member, RuleProblem::UnknownKey(known));
            }
        }
        Some(Self {
            reader,
            node: node.clone(),
            members,
            version,
        })
    }

    /// A key's value.
    pub(super) fn get(&self, key: &str) -> Option<Node<'t>> {
        let found = self.members.iter().find(|(k, _)| k == key);
        found.map(|(_, node)| node.clone())
    }

    /// A key's value, which must be there.
    pub(super) fn need(&mut self, key: &str) -> Option<Node<'t>> {
        let found = self.get(key);
        if found.is_none() {
            self.reader.missing(&self.node, key);
        }
        found
    }

    pub(super) fn wrong(&mut self, node: &Node<'t>, problem: impl Into<RuleProblem>) {
        self.reader.report(node, problem);
    }

    fn take<T>(&mut self, node: &Node<'t>, value: Result<T, RuleProblem>) -> Option<T> {
        self.reader.take(node, value)
    }

    /// A string.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let node = self.get(key)?;
        let text = node.string();
        self.take(&node, text)
    }

    /// A string with substitution templates in it; a number stands for its text.
    pub(super) fn template_of(&mut self, node: &Node<'t>) -> Option<Template> {
        let template = node
            .scalar()
            .and_then(|text| Template::parse(&text, self.version).map_err(RuleProblem::from));
        self.take(node, template)
    }

    pub(super) fn template(&mut self, key: &str) -> Option<Template> {
        let node = self.get(key)?;
        self.template_of(&node)
    }

    pub(super) fn need_template(&mut self, key: &str) -> Option<Template> {
        let node = self.need(key)?;
        let template = self.template_of(&node)?;
        if template.as_literal() == Some("") {
            self.wrong(&node, RuleProblem::Value("is empty".into()));
            return None;
        }
        Some(template)
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        let flag = node.boolean();
        self.take(&node, flag)
    }

    /// A number in a range.
    pub(super) fn number(&mut self, key: &str, low: u64, high: u64) -> Option<u64> {
        let node = self.get(key)?;
        let number = node.integer().filter(|n| (low..=high).contains(n));
        let number = number.ok_or_else(|| RuleProblem::Value(format!("must be {low} to {high}")));
        self.take(&node, number)
    }

    /// A size with its unit (`"10MiB"`), or bytes; at least `low`.
    pub(super) fn size(&mut self, key: &str, low: u64) -> Option<u64> {
        const UNITS: [(&str, u64); 7] = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("kB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("B", 1),
        ];
        let wrong = format!("must be a size like \"10MiB\", or bytes; at least {low}");
        self.scaled(key, &UNITS, 1, low, wrong)
    }

    /// A duration with its unit (`"10s"`), or seconds; at least `low`.
    pub(super) fn duration(&mut self, key: &str, low: Duration) -> Option<Duration> {
        const UNITS: [(&str, u64); 5] = [
            ("ms", 1),
            ("s", 1_000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
        ];
        let low = u64::try_from(low.as_millis()).unwrap_or(u64::MAX);
        let wrong = format!("must be a duration like \"10s\", or seconds; at least {low}ms");
        let millis = self.scaled(key, &UNITS, 1_000, low, wrong)?;
        Some(Duration::from_millis(millis))
    }

    fn scaled(
        &mut self,
        key: &str,
        units: &[(&str, u64)],
        bare: u64,
        low: u64,
        wrong: String,
    ) -> Option<u64> {
        let node = self.get(key)?;
        let text = node.scalar().unwrap_or_default();
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let unit = unit.trim_start();
        let factor = match unit {
            "" => Some(bare),
            unit => units.iter().find(|(name, _)| *name == unit).map(|u| u.1),
        };
        let value = number.parse::<u64>().ok().zip(factor);
        let value = value.and_then(|(n, factor)| n.checked_mul(factor));
        let value = value.filter(|v| *v >= low);
        self.take(&node, value.ok_or(RuleProblem::Value(wrong)))
    }

    /// A list of objects with `key` and `value`, both templates.
    pub(super) fn pairs(&mut self, key: &str, most: usize) -> Vec<(Template, Template)> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        let items = node.items();
        let items = self.take(&node, items).unwrap_or_default();
        if items.len() > most {
            let problem = RuleProblem::Value(format!("has at most {most} entries"));
            self.wrong(&node, problem);
        }
        let version = self.version;
        let mut pairs = Vec::with_capacity(items.len());
        for item in &items {
            let Some(mut pair) = Fields::open(self.reader, item, "key, value", version) else {
                continue;
            };
            let name = pair.need_template("key");
            let value = pair.need("value");
            let value = value.and_then(|node| pair.template_of(&node));
            pairs.extend(name.zip(value));
        }
        pairs
    }
}
