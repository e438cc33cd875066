//! Brings over every row that can be read, page by page: what a tree of pages has lost of its inner
//! ones is of no matter, nor is the schema on page 1, which is known.
//!
//! Whose page it is tells SQLite's own map of owners, which also says what is free: rows that were
//! removed stay removed. Where the map is damaged too, a row goes where alone it fits.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::cells::{self, Kind, Row};
use super::pages::{Owner, Owners, Pages};

/// Tables by name. Those that an older file has not are complete without a row.
pub(crate) type Tables = &'static [&'static str];

pub(crate) const QUEUE: Tables = &[
    "meta",
    "takers",
    "drops",
    "garbage",
    "sessions",
    "unreleased",
    "subscriptions",
    "retained",
    "wills",
    "messages",
    "queue",
    "bodies",
    "parcels",
    "dead_letters",
];

pub(crate) const STATE: Tables = &["documents"];

/// The index that knows the takers' names too.
const NAMES: &str = "sqlite_autoindex_takers_1";

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Carved {
    pub(super) rows: BTreeMap<&'static str, u64>,
    pub(super) incomplete: BTreeSet<&'static str>,
}

/// A table as its rows look on a page.
struct Shape {
    name: &'static str,
    columns: Vec<Column>,
    /// Rows by number, and where the number is among the columns.
    numbered: Option<Option<usize>>,
    insert: String,
}

struct Column {
    kind: String,
    nullable: bool,
}

impl Shape {
    fn of(fresh: &Connection, name: &'static str) -> rusqlite::Result<Self> {
        let mut statement = fresh.prepare(
            "SELECT c.name, c.type, c.\"notnull\", c.pk, t.wr
             FROM pragma_table_info(?1) c, pragma_table_list(?1) t WHERE t.schema = 'main'",
        )?;
        let mut rows = statement.query([name])?;
        let (mut names, mut columns, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let mut by_key = false;
        while let Some(row) = rows.next()? {
            let key: i64 = row.get(3)?;
            if key > 0 {
                keys.push(columns.len());
            }
            by_key = row.get(4)?;
            names.push(row.get::<_, String>(0)?);
            columns.push(Column {
                kind: row.get(1)?,
                nullable: !row.get::<_, bool>(2)? && key == 0,
            });
        }
        let number = match keys.as_slice() {
            [one] if columns.get(*one).is_some_and(|c| c.kind == "INTEGER") => Some(*one),
            _ => None,
        };
        let marks = vec!["?"; names.len()].join(", ");
        let names = names.join(", ");
        Ok(Self {
            name,
            columns,
            numbered: (!by_key).then_some(number),
            insert: format!("INSERT OR REPLACE INTO {name}({names}) VALUES ({marks})"),
        })
    }

    /// The row's columns, if it is one of this table.
    fn fit(&self, row: &Row) -> Option<Vec<Value>> {
        if self.numbered.is_some() != row.number.is_some() || row.columns.len() > self.columns.len()
        {
            return None;
        }
        let mut columns = row.columns.clone();
        columns.resize(self.columns.len(), Value::Null);
        if let Some(Some(at)) = self.numbered {
            let place = columns.get_mut(at)?;
            if *place != Value::Null {
                return None;
            }
            *place = Value::Integer(row.number?);
        }
        let fits = |(column, value): (&Column, &Value)| match value {
            Value::Null => column.nullable,
            Value::Integer(_) => column.kind == "INTEGER",
            Value::Text(_) => column.kind == "TEXT",
            Value::Blob(_) => column.kind == "BLOB",
            Value::Real(_) => false,
        };
        (self.columns.iter().zip(&columns).all(fits)).then_some(columns)
    }
}

/// Brings over what there is of `pages` (`None`: nothing). Errors are those of the fresh file.
pub(super) fn carve(
    pages: Option<&Pages>,
    fresh: &Connection,
    tables: Tables,
) -> rusqlite::Result<Carved> {
    let mut carved = Carved {
        rows: tables.iter().map(|name| (*name, 0)).collect(),
        incomplete: BTreeSet::new(),
    };
    match pages.filter(|pages| pages.count > 0) {
        Some(pages) => Carver::new(pages, fresh, tables, carved)?.run(),
        None => {
            carved.incomplete.extend(tables);
            Ok(carved)
        }
    }
}

struct Carver<'a> {
    pages: &'a Pages,
    owners: Owners<'a>,
    fresh: &'a Connection,
    shapes: Vec<Shape>,
    tables: Tables,
    /// Tables and indexes by the first page of their trees.
    roots: HashMap<u32, String>,
    names: Vec<(String, String, i64)>,
    carved: Carved,
}

impl<'a> Carver<'a> {
    fn new(
        pages: &'a Pages,
        fresh: &'a Connection,
        tables: Tables,
        carved: Carved,
    ) -> rusqlite::Result<Self> {
        let shapes = tables.iter().map(|name| Shape::of(fresh, name));
        let mut carver = Self {
            pages,
            owners: Owners::new(pages),
            fresh,
            shapes: shapes.collect::<rusqlite::Result<_>>()?,
            tables,
            roots: HashMap::new(),
            names: Vec::new(),
            carved,
        };
        carver.find_roots()?;
        Ok(carver)
    }

    /// As the file's own schema says, as far as it is there; what it does not say is as in every
    /// file: SQLite puts the trees of a file that gives pages back at its beginning, in the order of
    /// their making.
    fn find_roots(&mut self) -> rusqlite::Result<()> {
        let mut page = Vec::new();
        let mut whole = true;
        for number in 1..=self.pages.count {
            if self.owners.of(number) != Owner::Root(1) {
                continue;
            }
            let rows = (self.pages.read(number, &mut page))
                .then(|| cells::rows(self.pages, number, &page));
            let Some(Some((_, rows))) = rows else {
                whole = false;
                continue;
            };
            whole &= rows.iter().all(Option::is_some);
            for row in rows.into_iter().flatten() {
                if let [_, Value::Text(name), _, Value::Integer(root), _] = row.columns.as_slice() {
                    if let Ok(root) = u32::try_from(*root) {
                        self.roots.insert(root, name.clone());
                    }
                }
            }
        }
        if whole {
            return Ok(());
        }
        let mut statement = self
            .fresh
            .prepare("SELECT rootpage, name FROM sqlite_schema WHERE rootpage > 0")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(1)?;
            if !self.roots.values().any(|known| *known == name) {
                self.roots.entry(row.get(0)?).or_insert(name);
            }
        }
        Ok(())
    }

    fn run(mut self) -> rusqlite::Result<Carved> {
        if self.pages.cut || self.pages.journal.damaged {
            self.all_incomplete();
        }
        let mut page = Vec::new();
        for number in 1..=self.pages.count {
            let owner = self.owners.of(number);
            if matches!(
                owner,
                Owner::Free | Owner::Rest | Owner::Map | Owner::Root(1)
            ) {
                continue;
            }
            let there = self.pages.read(number, &mut page);
            let rows = match there {
                true => cells::rows(self.pages, number, &page),
                false => None,
            };
            match owner {
                Owner::Root(root) => self.owned(root, rows)?,
                // Whatever it was.
                _ => {
                    self.all_incomplete();
                    self.unowned(rows)?;
                }
            }
        }
        self.put_names()?;
        Ok(self.carved)
    }

    fn all_incomplete(&mut self) {
        self.carved.incomplete.extend(self.tables);
    }

    /// A page of a tree that is known.
    fn owned(&mut self, root: u32, rows: Option<(Kind, Vec<Option<Row>>)>) -> rusqlite::Result<()> {
        let name = self.roots.get(&root).map_or("", String::as_str);
        if name == NAMES {
            let rows = rows.into_iter().flat_map(|(_, rows)| rows);
            rows.flatten().for_each(|row| self.name(&row));
            return Ok(());
        }
        let Some(at) = self.shapes.iter().position(|shape| shape.name == name) else {
            // An index, which is made anew; or a tree whose name is lost.
            return match name {
                "" => self.unowned(rows),
                _ => Ok(()),
            };
        };
        let mut whole = rows.is_some();
        for row in rows.into_iter().flat_map(|(_, rows)| rows) {
            whole &= match row {
                Some(row) => self.put(at, &row)?,
                None => false,
            };
        }
        if !whole {
            self.carved.incomplete.extend(self.tables.get(at));
        }
        Ok(())
    }

    /// A page that may be any table's.
    fn unowned(&mut self, rows: Option<(Kind, Vec<Option<Row>>)>) -> rusqlite::Result<()> {
        for row in rows.into_iter().flat_map(|(_, rows)| rows).flatten() {
            let fitting = self.shapes.iter().enumerate();
            let fitting = fitting.filter(|(_, shape)| shape.fit(&row).is_some());
            let fitting: Vec<usize> = fitting.map(|(at, _)| at).collect();
            let name = |at: &usize| self.shapes.get(*at).map_or("", |shape| shape.name);
            let names: Vec<&str> = fitting.iter().map(name).collect();
            match (names.as_slice(), fitting.as_slice()) {
                ([], _) => self.name(&row),
                // A will that passes for a message is nobody's, and goes.
                (["wills", "messages"], [_, at]) | (_, [at]) => {
                    self.put(*at, &row)?;
                }
                // A text and a number: they are in indexes too.
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the table took it: one that was not written by us does not fit.
    fn put(&mut self, at: usize, row: &Row) -> rusqlite::Result<bool> {
        let Some(shape) = self.shapes.get(at) else {
            return Ok(false);
        };
        let Some(columns) = shape.fit(row) else {
            return Ok(false);
        };
        let mut statement = self.fresh.prepare_cached(&shape.insert)?;
        match statement.execute(params_from_iter(columns)) {
            Ok(_) => {
                *self.carved.rows.entry(shape.name).or_default() += 1;
                Ok(true)
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn name(&mut self, row: &Row) {
        if let ([Value::Text(kind), Value::Text(name), Value::Integer(id)], None) =
            (row.columns.as_slice(), row.number)
        {
            self.names.push((kind.clone(), name.clone(), *id));
        }
    }

    /// Takers whose books are lost, and their names are not.
    fn put_names(&mut self) -> rusqlite::Result<()> {
        if !self.carved.incomplete.contains("takers") {
            return Ok(());
        }
        let mut statement = self.fresh.prepare(
            "INSERT OR IGNORE INTO takers(id, kind, name) SELECT ?3, ?1, ?2
             WHERE ?3 NOT IN (SELECT taker FROM garbage)",
        )?;
        for name in &self.names {
            statement.execute((&name.0, &name.1, name.2))?;
        }
        Ok(())
    }
}
