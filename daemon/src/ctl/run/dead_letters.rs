//! `iotedgectl dead-letters`.

use super::super::args::{Chosen, DeadLetters};
use super::super::protocol::{self as p, DeadLetterInfo, Request};
use super::super::{CtlError, show};
use super::Session;
use crate::ctl::client::read_as;

/// Letters asked for at once.
const PAGE: u32 = 1_000;

impl Session<'_> {
    /// `kind`: of what kind of queues alone.
    pub(super) fn dead_letters(
        &mut self,
        command: &DeadLetters,
        kind: Option<&str>,
    ) -> Result<(), CtlError> {
        match command {
            DeadLetters::List {
                queue,
                after,
                count,
            } => {
                let request = Request::DeadLetterList(p::DeadLetterList {
                    queue: queue.clone(),
                    kind: kind.map(str::to_owned),
                    after: *after,
                    limit: *count,
                });
                self.ask_and_list(&request, show::dead_letters)
            }
            DeadLetters::Show { id } => {
                let request = Request::DeadLetterShow(p::DeadLetter { id: *id });
                self.ask_and_show(&request, show::dead_letter)
            }
            DeadLetters::Replay(chosen) => {
                self.each(chosen, kind, Request::DeadLetterReplay, "replayed")
            }
            DeadLetters::Drop(chosen) => {
                self.each(chosen, kind, Request::DeadLetterDrop, "dropped")
            }
        }
    }

    /// Asks for each of them, oldest first; stops at the first that is refused.
    fn each(
        &mut self,
        chosen: &Chosen,
        kind: Option<&str>,
        request: fn(p::DeadLetter) -> Request,
        done: &str,
    ) -> Result<(), CtlError> {
        let ids = match chosen.ids.is_empty() {
            false => chosen.ids.clone(),
            true => self.all_letters(chosen.queue.as_deref(), kind)?,
        };
        let mut client = self.connect()?;
        for id in &ids {
            client.ask(&request(p::DeadLetter { id: *id }))?;
        }
        match self.json {
            true => writeln!(self.out, "{}", serde_json::json!({ done: ids.len() }))?,
            false => writeln!(self.out, "{} {done}", ids.len())?,
        }
        Ok(())
    }

    /// The numbers of those that are there now: one that dies again while it is replayed waits for
    /// the next time.
    fn all_letters(
        &mut self,
        queue: Option<&str>,
        kind: Option<&str>,
    ) -> Result<Vec<u64>, CtlError> {
        let mut ids: Vec<u64> = Vec::new();
        let mut client = self.connect()?;
        loop {
            let answer = client.ask(&Request::DeadLetterList(p::DeadLetterList {
                queue: queue.map(str::to_owned),
                kind: kind.map(str::to_owned),
                after: ids.last().copied(),
                limit: PAGE,
            }))?;
            let page: Vec<DeadLetterInfo> = read_as(answer)?;
            if page.is_empty() {
                return Ok(ids);
            }
            ids.extend(page.iter().map(|letter| letter.id));
        }
    }
}
