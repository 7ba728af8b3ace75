//! Reader of `.dat` files, as strict as the contract: what mprof forgives is refused here.

/// One MEM or CHLD value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The pid of a CHLD line.
    pub pid: Option<u32>,
    /// MiB.
    pub mib: f64,
    /// Unix time in seconds.
    pub epoch_s: f64,
}

/// One FUNC line.
#[derive(Clone, Debug, PartialEq)]
pub struct Func {
    /// The pid before the name: None for the process of the MEM lines.
    pub child: Option<u32>,
    /// `pid=`
    pub pid: u32,
    /// `module.qualname`
    pub name: String,
    /// MiB of the MEM series at the begin and at the end.
    pub mib: [f64; 2],
    /// Unix times in seconds.
    pub epoch_s: [f64; 2],
    /// In the whole file: each process has a band of its own.
    pub level: u32,
    /// `rss0=` and `rss1=`, bytes.
    pub rss: [u64; 2],
    /// `calls=`
    pub calls: u64,
}

impl Func {
    /// The name as it stands in the line.
    pub fn token(&self) -> String {
        match self.child {
            Some(pid) => format!("{pid}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// A whole file.
#[derive(Debug)]
pub struct Dat {
    /// The text after CMDLINE.
    pub command: String,
    /// MEM lines.
    pub mem: Vec<Sample>,
    /// CHLD lines.
    pub children: Vec<Sample>,
    /// FUNC lines.
    pub funcs: Vec<Func>,
}

/// Reads a file.
#[track_caller]
pub fn parse(text: &str) -> Dat {
    assert!(
        text.ends_with('\n'),
        "the last line is cut: {:?}",
        text.lines().last()
    );
    let mut dat = Dat {
        command: String::new(),
        mem: Vec::new(),
        children: Vec::new(),
        funcs: Vec::new(),
    };
    let mut commands = 0;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(
            words.len() >= 2 && !line.contains('\t'),
            "mprof cannot read {line:?}"
        );
        match words[0] {
            "CMDLINE" => {
                dat.command = line["CMDLINE ".len()..].into();
                commands += 1;
            }
            "MEM" => dat.mem.push(sample(line, None, words[1], words[2])),
            "CHLD" => {
                // A label may follow the pid, as in `123(gunicorn:w1)`.
                let pid = words[1].split('(').next().and_then(|pid| pid.parse().ok());
                assert!(pid.is_some(), "no pid: {line:?}");
                dat.children.push(sample(line, pid, words[2], words[3]));
            }
            "FUNC" => dat.funcs.push(func(line, &words)),
            _ => {}
        }
    }
    assert_eq!(commands, 1, "one CMDLINE");
    assert!(!dat.mem.is_empty(), "no MEM line: mprof peak would fail");
    dat
}

#[track_caller]
fn sample(line: &str, pid: Option<u32>, mib: &str, epoch_s: &str) -> Sample {
    // mprof writes {:.6f} MiB and {:.4f} seconds.
    for (text, digits) in [(mib, 6), (epoch_s, 4)] {
        let decimals = text
            .split_once('.')
            .map_or(0, |(_, decimals)| decimals.len());
        assert_eq!(decimals, digits, "decimals of {text} in {line:?}");
    }
    let number = |text: &str| text.parse().unwrap_or_else(|e| panic!("{line:?}: {e}"));
    Sample {
        pid,
        mib: number(mib),
        epoch_s: number(epoch_s),
    }
}

#[track_caller]
fn func(line: &str, words: &[&str]) -> Func {
    assert_eq!(words.len(), 11, "words of {line:?}");
    let number = |text: &str| -> f64 { text.parse().unwrap_or_else(|e| panic!("{line:?}: {e}")) };
    let value = |at: usize, key: &str| -> u64 {
        let value = words[at].strip_prefix(key).and_then(|v| v.parse().ok());
        value.unwrap_or_else(|| panic!("no {key} in {line:?}"))
    };
    // A name may have a `/` of its own.
    let (child, name) = match words[1].split_once('/') {
        Some((pid, name)) if pid.parse::<u32>().is_ok() => (pid.parse().ok(), name),
        _ => (None, words[1]),
    };
    let level = words[6].parse().unwrap_or_else(|e| panic!("{line:?}: {e}"));
    let pid = value(7, "pid=") as u32;
    assert!(child.is_none_or(|child| child == pid), "two pids: {line:?}");
    Func {
        child,
        pid,
        name: name.to_owned(),
        mib: [number(words[2]), number(words[4])],
        epoch_s: [number(words[3]), number(words[5])],
        level,
        rss: [value(8, "rss0="), value(9, "rss1=")],
        calls: value(10, "calls="),
    }
}

impl Dat {
    /// The FUNC lines of one process, in order of their begin.
    pub fn funcs_of(&self, pid: u32) -> Vec<&Func> {
        let mut own: Vec<&Func> = self.funcs.iter().filter(|func| func.pid == pid).collect();
        own.sort_by(|a, b| a.epoch_s[0].total_cmp(&b.epoch_s[0]));
        own
    }

    /// The lowest level of a process: where its band begins.
    pub fn band(&self, pid: u32) -> u32 {
        let levels = self.funcs.iter().filter(|func| func.pid == pid);
        levels.map(|func| func.level).min().unwrap_or(0)
    }

    /// Pids of the CHLD lines, sorted, each once.
    pub fn child_pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.children.iter().filter_map(|s| s.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// The highest MEM in MiB.
    pub fn peak(&self) -> f64 {
        peak(self.mem.iter())
    }

    /// The highest value of one child in MiB.
    pub fn child_peak(&self, pid: u32) -> f64 {
        peak(self.children.iter().filter(|s| s.pid == Some(pid)))
    }
}

fn peak<'a>(samples: impl Iterator<Item = &'a Sample>) -> f64 {
    samples.map(|s| s.mib).fold(0.0, f64::max)
}
