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

/// A whole file.
#[derive(Debug)]
pub struct Dat {
    /// The text after CMDLINE.
    pub command: String,
    /// MEM lines.
    pub mem: Vec<Sample>,
    /// CHLD lines.
    pub children: Vec<Sample>,
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

impl Dat {
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
