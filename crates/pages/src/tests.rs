use super::{give_back_code, mappings, unchanged};

const SMAPS: &str = "\
5500-5600 r--p 00000000 fe:00 12 /usr/bin/iotedged
Rss:                 512 kB
Anonymous:             0 kB
5600-5a00 r-xp 00100000 fe:00 12 /usr/bin/iotedged
Rss:                2048 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
5a00-5b00 r--p 00500000 fe:00 12 /usr/bin/iotedged
Rss:                 256 kB
Anonymous:           256 kB
5b00-5c00 rw-p 00600000 fe:00 12 /usr/bin/iotedged
Rss:                   4 kB
Anonymous:             0 kB
6000-6100 r-xp 00000000 fe:00 13 /usr/lib/a name with spaces.so
Rss:                 100 kB
Anonymous:             0 kB
7000-7100 rw-p 00000000 00:00 0
Rss:                  80 kB
Anonymous:            80 kB
";

#[test]
fn only_unchanged_pages_of_the_executable_are_given_back() {
    let found = unchanged(SMAPS, "/usr/bin/iotedged");
    let ranges: Vec<_> = found.iter().map(|m| m.addresses.clone()).collect();
    assert_eq!(ranges, [0x5500..0x5600, 0x5600..0x5a00]);
    assert_eq!(found.iter().map(|m| m.resident).sum::<usize>(), 2560 << 10);
}

#[test]
fn a_paragraph_without_a_path_and_a_path_with_spaces_are_read() {
    let all = mappings(SMAPS);
    assert_eq!(all.len(), 6);
    assert_eq!(
        all.iter().map(|m| m.path).next_back(),
        Some(""),
        "anonymous memory has no path"
    );
    assert!(
        all.iter()
            .any(|m| m.path.ends_with("a name with spaces.so"))
    );
}

#[test]
fn what_is_no_smaps_gives_nothing_back() {
    for text in [
        "",
        "\n",
        "Rss: 5 kB",
        "zz-yy r-xp",
        "5500-5600",
        "5500 r-xp 0 0 0 /x",
    ] {
        assert_eq!(unchanged(text, "/x"), [], "{text:?}");
    }
}

/// Resident bytes of the code of this process's own executable.
fn resident() -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let executable = std::fs::read_link("/proc/self/exe").unwrap();
    unchanged(&smaps, executable.to_str().unwrap())
        .iter()
        .map(|mapping| mapping.resident)
        .sum()
}

#[test]
fn a_program_runs_on_with_less() {
    let numbers: Vec<u32> = (0..1000).collect();
    let before = resident();
    let given = give_back_code().unwrap();
    assert!(
        given > 0 && given <= before + (64 << 10),
        "{given} of {before}"
    );
    assert_eq!(numbers.iter().sum::<u32>(), 499_500);
    // Other threads too find all they need.
    let sum = std::thread::spawn(move || numbers.iter().rev().sum::<u32>());
    assert_eq!(sum.join().unwrap(), 499_500);
}
