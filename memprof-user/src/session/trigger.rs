//! Thresholds: at the moment at which a process crosses one, what is known is saved and shown, and
//! the process may be stopped for a debugger.
//!
//! It is mprof's `--pdb-mmem` for processes that one cannot restart. Nothing is done to the target
//! unless `stop` is asked for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::collector::Collector;
use crate::error::{Error, Result};
use crate::report::{self, size};
use crate::sink::{Metric, escape};
use crate::target::{Launched, Rollup, resident_bytes};
use crate::{capture, output, snapshot};

/// What a threshold is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// Resident.
    Rss,
    /// Resident, each page divided by how many map it.
    Pss,
    /// Resident and nobody else's.
    Uss,
    /// RSS now less its lowest value in the last minute.
    Growth,
}

/// One threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    quantity: Quantity,
    /// All processes together, not each by itself.
    total: bool,
    bytes: u64,
    /// As it was typed.
    text: String,
}

/// What happens besides the capture and the stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnTrigger {
    /// The trace goes on.
    #[default]
    Continue,
    /// The process gets SIGSTOP.
    Stop,
    /// A shell command.
    Exec(String),
}

impl FromStr for Trigger {
    type Err = String;

    /// `[total:]rss|pss|uss|growth>SIZE`, SIZE with K, M, G or T (2^10 each); growth is per minute
    /// and may say so: `growth>100M/min`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not [total:]rss|pss|uss|growth>SIZE, such as 'rss>2G' or 'growth>100M/min'"
            )
        };
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (name, amount) = compact.split_once('>').ok_or_else(wrong)?;
        let (total, name) = match name.strip_prefix("total:") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let quantity = match name {
            "rss" => Quantity::Rss,
            "pss" => Quantity::Pss,
            "uss" => Quantity::Uss,
            "growth" => Quantity::Growth,
            _ => return Err(wrong()),
        };
        let amount = match quantity {
            Quantity::Growth => amount.strip_suffix("/min").unwrap_or(amount),
            _ => amount,
        };
        Ok(Trigger {
            quantity,
            total,
            bytes: bytes(amount).ok_or_else(wrong)?,
            text: text.trim().to_owned(),
        })
    }
}

impl FromStr for OnTrigger {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.trim() {
            "continue" => Ok(OnTrigger::Continue),
            "stop" => Ok(OnTrigger::Stop),
            other => match other.strip_prefix("exec ").map(str::trim) {
                Some(command) if !command.is_empty() => Ok(OnTrigger::Exec(command.to_owned())),
                _ => Err(format!("{text:?} is not continue, stop or 'exec COMMAND'")),
            },
        }
    }
}

/// A size as people write it, in bytes: `1.5G`, `200MiB`, `4096` (2^10 each). None: it is no size.
pub fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let shift = match unit
        .to_ascii_uppercase()
        .trim_end_matches('B')
        .trim_end_matches('I')
    {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * (1u64 << shift) as f64;
    // Above this a page count would not fit; below a byte nothing can be crossed.
    (1.0..=1e18).contains(&bytes).then_some(bytes as u64)
}

/// How far back growth looks.
const MINUTE: Duration = Duration::from_secs(60);

/// Captures of one run at most: a value that swings around its threshold must not fill the disk.
const MOST: u32 = 20;

/// A crossing is over when the value has fallen by this part of the threshold.
const REARM_PART: u64 = 16;

/// smaps_rollup walks the page tables: one part in so many of the time may go into it.
const ROLLUP_SHARE: u32 = 50;

/// Thresholds, and which of them are crossed now.
pub struct Watch {
    triggers: Vec<Trigger>,
    action: OnTrigger,
    base: PathBuf,
    /// What the samples are.
    metric: Metric,
    fired: u32,
    /// By trigger and the number of the process in the run; None: the total.
    above: HashSet<(usize, Option<u32>)>,
    /// RSS in the last minute, by the number of the process.
    history: HashMap<Option<u32>, VecDeque<(Instant, u64)>>,
    next_rollup: Instant,
}

impl Watch {
    /// Captures go to `BASE.trigger-N.memprof`.
    pub fn new(triggers: Vec<Trigger>, action: OnTrigger, base: PathBuf, metric: Metric) -> Self {
        Watch {
            triggers,
            action,
            base,
            metric,
            fired: 0,
            above: HashSet::new(),
            history: HashMap::new(),
            next_rollup: Instant::now(),
        }
    }

    /// Holds every threshold against the values of now. To be called at each sample.
    pub fn check(&mut self, collector: &mut Collector, command: &str, elapsed: Duration) {
        if self.triggers.is_empty() {
            return;
        }
        let pids: Vec<u32> = collector.model().live_pids().collect();
        let model = collector.model();
        let numbers: HashSet<_> = pids.iter().map(|&pid| model.process_index(pid)).collect();
        self.history.retain(|number, _| numbers.contains(number));
        let mut values: HashMap<(Quantity, u32), u64> = HashMap::new();
        let now = Instant::now();
        let shares = self.wants_shares() && now >= self.next_rollup;
        for &pid in pids.iter().filter(|&&pid| !model.borrows(pid)) {
            let Ok(rss) = resident_bytes(pid) else {
                continue; // its end is on the way
            };
            values.insert((Quantity::Rss, pid), rss);
            let growth = self.growth(model.process_index(pid), now, rss);
            values.insert((Quantity::Growth, pid), growth);
            if shares && let Ok(rollup) = Rollup::read(pid) {
                values.insert((Quantity::Pss, pid), rollup.pss);
                values.insert((Quantity::Uss, pid), rollup.uss);
            }
        }
        if shares {
            self.next_rollup = now + now.elapsed() * ROLLUP_SHARE;
        }
        for index in 0..self.triggers.len() {
            self.hold(index, &values, collector, command, elapsed);
        }
    }

    fn wants_shares(&self) -> bool {
        let of_shares =
            |trigger: &Trigger| matches!(trigger.quantity, Quantity::Pss | Quantity::Uss);
        self.triggers.iter().any(of_shares)
    }

    fn growth(&mut self, number: Option<u32>, now: Instant, rss: u64) -> u64 {
        let history = self.history.entry(number).or_default();
        while history
            .front()
            .is_some_and(|(then, _)| now - *then > MINUTE)
        {
            history.pop_front();
        }
        history.push_back((now, rss));
        let lowest = history.iter().map(|(_, rss)| *rss).min();
        rss.saturating_sub(lowest.unwrap_or(rss))
    }

    fn hold(
        &mut self,
        index: usize,
        values: &HashMap<(Quantity, u32), u64>,
        collector: &mut Collector,
        command: &str,
        elapsed: Duration,
    ) {
        let trigger = self.triggers[index].clone();
        let own = values
            .iter()
            .filter(|((quantity, _), _)| *quantity == trigger.quantity);
        let mut rows: Vec<(u32, u64)> = own.map(|((_, pid), value)| (*pid, *value)).collect();
        rows.sort_unstable();
        let largest = rows.iter().max_by_key(|(_, value)| *value).copied();
        let Some((largest, _)) = largest else {
            return; // not read this time
        };
        if trigger.total {
            let total = rows.iter().map(|(_, value)| *value).sum();
            rows = vec![(0, total)];
        }
        for (pid, value) in rows {
            // Of a total there is no process.
            let key = (index, collector.model().process_index(pid));
            if value <= trigger.bytes {
                if value <= trigger.bytes - trigger.bytes / REARM_PART {
                    self.above.remove(&key);
                }
                continue;
            }
            if self.above.insert(key) && self.fired < MOST {
                self.fired += 1;
                let pid = if trigger.total { largest } else { pid };
                self.fire(&trigger, pid, value, collector, command, elapsed);
            }
        }
    }

    /// Stops first: what is shown and saved is then of that moment.
    fn fire(
        &self,
        trigger: &Trigger,
        pid: u32,
        value: u64,
        collector: &mut Collector,
        command: &str,
        elapsed: Duration,
    ) {
        if self.action == OnTrigger::Stop {
            Launched::signal(pid, libc::SIGSTOP);
        }
        let role = collector
            .model()
            .process(pid)
            .map(|process| process.role.clone());
        let role = escape::terminal(role.as_deref().unwrap_or_default()).into_owned();
        let whose = match trigger.total {
            true => format!(
                "all processes together have {}; the largest is",
                size(value)
            ),
            false => format!("{} in", size(value)),
        };
        eprintln!(
            "trigger {}: {whose} process {pid} ({role})",
            escape::terminal(&trigger.text)
        );
        match snapshot::take(&[pid]) {
            Ok(snapshot) => eprint!("{}", snapshot::text(&snapshot)),
            Err(error) => eprintln!("{error}"),
        }
        let mut profile = collector.profile(command.to_owned(), elapsed);
        profile.metric = Some(self.metric);
        eprint!("{}", report::table(&profile));
        let mut path = self.base.clone().into_os_string();
        path.push(format!(".trigger-{}.memprof", self.fired));
        let path = PathBuf::from(path);
        let saved = output::write_file(&path, true, |out| capture::write(&profile, out));
        match saved {
            Ok(()) => eprintln!("written: {}", path.display()),
            Err(error) => eprintln!("{error}"),
        }
        match &self.action {
            OnTrigger::Continue => {}
            OnTrigger::Stop => eprintln!(
                "process {pid} is stopped; look into it: gdb -p {pid}; let it go on: kill -CONT {pid}"
            ),
            OnTrigger::Exec(shell) => {
                if let Err(error) = execute(shell, trigger, pid, value, &path) {
                    eprintln!("{error}");
                }
            }
        }
    }
}

/// Runs a command without waiting for it; its end is nobody's business.
fn execute(shell: &str, trigger: &Trigger, pid: u32, value: u64, path: &PathBuf) -> Result<()> {
    let child = tokio::process::Command::new("sh")
        .args(["-c", shell])
        .env("MEMPROF_PID", pid.to_string())
        .env("MEMPROF_TRIGGER", &trigger.text)
        .env("MEMPROF_BYTES", value.to_string())
        .env("MEMPROF_CAPTURE", path)
        .stdin(std::process::Stdio::null())
        .spawn();
    match child {
        Ok(mut child) => {
            tokio::spawn(async move { child.wait().await });
            Ok(())
        }
        Err(e) => Err(Error::failed(
            format!("cannot run {shell:?}"),
            e,
            "check the command: sh -c COMMAND",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Quantity, bool, u64) {
        let trigger: Trigger = text.parse().unwrap();
        (trigger.quantity, trigger.total, trigger.bytes)
    }

    #[test]
    fn thresholds_are_read_as_people_write_them() {
        assert_eq!(parsed("rss>2G"), (Quantity::Rss, false, 2 << 30));
        assert_eq!(
            parsed(" total:pss > 1.5 GiB "),
            (Quantity::Pss, true, 3 << 29)
        );
        assert_eq!(parsed("uss>4096"), (Quantity::Uss, false, 4096));
        assert_eq!(
            parsed("growth>100M/min"),
            (Quantity::Growth, false, 100 << 20)
        );
        assert_eq!(parsed("growth>100mb"), (Quantity::Growth, false, 100 << 20));
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        for text in [
            "", "rss", "rss<2G", "rss>", "rss>2X", "vsz>1G", "rss>-1G", "rss>0", "rss>NaN",
        ] {
            let refused = text.parse::<Trigger>();
            assert!(
                refused.is_err_and(|why| why.contains("such as")),
                "{text:?}"
            );
        }
        assert!("exec".parse::<OnTrigger>().is_err() && "kill".parse::<OnTrigger>().is_err());
        assert_eq!(
            "exec logger it grew".parse(),
            Ok(OnTrigger::Exec("logger it grew".into()))
        );
    }
}
