//! How a custom authorizer is asked: a program, or an HTTP request.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::http::Target;

/// Bytes of the longest answer: ten policy documents with room for their white space.
pub(super) const MAX_ANSWER: u64 = 256 * 1024;

/// Where the question goes.
pub(super) enum Call {
    /// A program with its arguments: the question on standard input, the answer on standard output,
    /// exit status 0.
    Program(Vec<String>),
    /// `POST`, the question and the answer in the bodies, status 200.
    Http(Target),
}

impl Call {
    /// The answer's bytes. Whoever drops it ends the program.
    pub(super) async fn ask(&self, question: &Value) -> Result<Vec<u8>, String> {
        let question = question.to_string();
        match self {
            Self::Program(command) => run(command, question.as_bytes()).await,
            Self::Http(target) => target.post(question).await,
        }
    }
}

/// A program and whatever it has started: all of them end when nobody waits for it any more.
struct Family(Option<Pid>);

impl Family {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// Its number may be another's from now on.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may just have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

pub(super) async fn run(command: &[String], question: &[u8]) -> Result<Vec<u8>, String> {
    let (program, arguments) = command.split_first().ok_or("there is no command")?;
    let failed = |what: &str, e: std::io::Error| format!("{program}: {what}: {e}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .process_group(0)
        .spawn()
        .map_err(|e| failed("cannot be started", e))?;
    let family = Family::of(&child);
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    let tell = async {
        if let Some(stdin) = &mut stdin {
            // It may know the answer without reading everything; its exit status says.
            let _ = stdin.write_all(question).await;
        }
        drop(stdin);
    };
    let hear = async {
        let mut answer = Vec::new();
        if let Some(stdout) = &mut stdout {
            stdout.take(MAX_ANSWER + 1).read_to_end(&mut answer).await?;
        }
        Ok(answer)
    };
    let ((), answer) = tokio::join!(tell, hear);
    let answer: Vec<u8> = answer.map_err(|e| failed("its answer", e))?;
    if answer.len() as u64 > MAX_ANSWER {
        return Err(format!(
            "{program}: its answer has more than {MAX_ANSWER} bytes"
        ));
    }
    let status = child.wait().await.map_err(|e| failed("its end", e))?;
    family.has_ended();
    match status.success() {
        true => Ok(answer),
        false => Err(format!("{program}: {status}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test that panics has failed
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn shell(script: &str) -> Call {
        Call::Program(vec!["/bin/sh".into(), "-c".into(), script.into()])
    }

    #[tokio::test]
    async fn a_program_hears_the_question_and_says_the_answer() {
        let question = json!({"a": 1});
        assert_eq!(shell("cat").ask(&question).await.unwrap(), b"{\"a\":1}");
        assert_eq!(shell("echo yes").ask(&question).await.unwrap(), b"yes\n");
        for wrong in ["exit 1", "kill -9 $$", "yes", "/nowhere"] {
            let answer = shell(wrong).ask(&question).await;
            assert!(answer.is_err(), "{wrong}: {answer:?}");
        }
        let nowhere = Call::Program(vec!["/nowhere/at/all".into()]);
        assert!(
            nowhere
                .ask(&question)
                .await
                .unwrap_err()
                .contains("cannot be started")
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_waited_for_ends() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!(
            "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600",
            pid.display()
        );
        let call = shell(&script);
        let question = json!({});
        let asking = tokio::time::timeout(Duration::from_secs(30), call.ask(&question));
        let started = async {
            while !pid.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = asking => panic!("{answer:?}"),
            () = started => {}
        }
        let number = std::fs::read_to_string(&pid).unwrap();
        let alive = format!("/proc/{}/cmdline", number.trim());
        let begin = Instant::now();
        // Gone, or a zombie without a command line.
        while std::fs::read(&alive).is_ok_and(|line| !line.is_empty()) {
            assert!(begin.elapsed() < Duration::from_secs(20), "it goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
