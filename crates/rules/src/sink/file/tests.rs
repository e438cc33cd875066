use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;

use bytes::Bytes;
use iotedge_model::{MessageId, TraceId, UnixMillis};

use super::*;

fn append(path: &str) -> FileTask {
    FileTask {
        path: path.into(),
        replace: false,
        separator: "\n".into(),
        max_bytes: None,
        max_age_s: None,
        keep: 10,
        gzip: false,
    }
}

fn item(id: u64, task: &FileTask, body: &str) -> Item {
    Item {
        id: MessageId(id),
        trace: TraceId(u128::from(id) << 90),
        rule: "r".into(),
        topic: "t".into(),
        accepted_at: UnixMillis(0),
        trusted: true,
        task: Task::File(task.clone()),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

struct House {
    dir: tempfile::TempDir,
    sink: FileSink,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink::new(dir.path().join("root"), dir.path().join("state"));
        Self { dir, sink }
    }

    /// As after a crash.
    fn again(&mut self) {
        self.sink = FileSink::new(self.dir.path().join("root"), self.dir.path().join("state"));
    }

    fn run(&self, items: &[Item]) -> Progress {
        let mut done = 0;
        loop {
            let progress = self.sink.0.run("r/0", &items[done..]);
            done += progress.done;
            if progress.error.is_some() || done == items.len() {
                return Progress {
                    done,
                    error: progress.error,
                };
            }
        }
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join("root").join(path)).unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }
}

#[test]
fn messages_are_appended_in_order_each_with_its_separator() {
    let house = House::new();
    let (a, b) = (append("a/b.log"), append("c"));
    let items = [
        item(1, &a, "one"),
        item(2, &a, "two"),
        item(3, &b, "x"),
        item(4, &a, "three"),
    ];
    assert_eq!(house.run(&items), Progress::all(&items));
    assert_eq!(house.read("a/b.log"), "one\ntwo\nthree\n");
    assert_eq!(house.read("c"), "x\n");
}

#[test]
fn what_comes_again_after_a_crash_is_written_once_wherever_the_crash_was() {
    let task = append("log");
    let items = [
        item(1, &task, "one"),
        item(2, &task, "two"),
        item(3, &task, "three"),
    ];
    let whole = "before\none\ntwo\nthree\n";
    for left in "before\n".len()..=whole.len() {
        let mut house = House::new();
        let before = [item(9, &task, "before")];
        house.run(&before);
        house.run(&items);
        let file = fs::OpenOptions::new()
            .write(true)
            .open(house.path("root/log"))
            .unwrap();
        file.set_len(left as u64).unwrap();
        house.again();
        assert_eq!(house.run(&items), Progress::all(&items));
        assert_eq!(house.read("log"), whole, "crash after {left} bytes");
        let more = [item(4, &task, "four")];
        house.run(&more);
        assert_eq!(house.read("log"), format!("{whole}four\n"));
    }
}

#[test]
fn numbers_that_begin_again_are_not_taken_for_the_old_messages() {
    let task = append("log");
    let mut house = House::new();
    house.run(&[item(1, &task, "old")]);
    house.again();
    let mut new = item(1, &task, "new");
    new.trace = TraceId(7);
    house.run(&[new]);
    assert_eq!(house.read("log"), "old\nnew\n");
}

#[test]
fn nothing_outside_the_root_is_touched() {
    let house = House::new();
    fs::create_dir_all(house.path("root")).unwrap();
    fs::create_dir(house.path("outside")).unwrap();
    fs::write(house.path("outside/secret"), "s").unwrap();
    symlink(house.path("outside"), house.path("root/folder")).unwrap();
    symlink(house.path("outside/secret"), house.path("root/file")).unwrap();
    fs::create_dir(house.path("root/taken")).unwrap();
    for path in [
        "../outside/secret",
        "/etc/passwd",
        "a/../../outside/x",
        "folder/x",
        "folder/secret",
        "file",
        ".hidden",
        "a\0b",
        "taken",
    ] {
        for replace in [false, true] {
            let task = FileTask {
                replace,
                ..append(path)
            };
            let progress = house.run(&[item(1, &task, "evil")]);
            // A link in the place of a file is replaced by the file, and not followed.
            if replace && path == "file" {
                assert_eq!(house.read("file"), "evil");
                continue;
            }
            assert!(
                matches!(&progress.error, Some(SinkError::Refused(_))),
                "{path} {replace}: {progress:?}"
            );
        }
    }
    assert_eq!(
        fs::read_to_string(house.path("outside/secret")).unwrap(),
        "s"
    );
    assert_eq!(fs::read_dir(house.path("outside")).unwrap().count(), 1);
}

#[test]
fn a_replaced_file_is_the_last_message() {
    let house = House::new();
    let task = FileTask {
        replace: true,
        ..append("state/now.json")
    };
    let items = [item(1, &task, "first, and longer"), item(2, &task, "last")];
    house.run(&items);
    assert_eq!(house.read("state/now.json"), "last");
    let names: Vec<_> = fs::read_dir(house.path("root/state"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["now.json"]);
}

#[test]
fn a_file_is_rotated_by_size_and_the_oldest_go() {
    let house = House::new();
    let task = FileTask {
        max_bytes: Some(10),
        keep: 2,
        gzip: true,
        ..append("log")
    };
    for n in 1..=5 {
        house.run(&[item(n, &task, &format!("message{n}"))]);
    }
    assert_eq!(house.read("log"), "message5\n");
    let mut names: Vec<String> = fs::read_dir(house.path("root"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["log", "log.3.gz", "log.4.gz"]);
    let file = fs::File::open(house.path("root/log.4.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "message4\n");
}

#[test]
fn a_pipe_in_the_place_of_the_file_holds_nobody_up() {
    let house = House::new();
    fs::create_dir_all(house.path("root")).unwrap();
    let pipe = house.path("root/pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let progress = house.run(&[item(1, &append("pipe"), "x")]);
    assert!(progress.error.is_some());
}
