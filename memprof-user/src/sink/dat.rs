//! mprof's time series, `mprofile_*.dat`, as the reader of memory_profiler 0.61 takes it.
//!
//! Its reader splits every line at single blanks and dies on what it does not expect: a blank
//! line, a blank in a function's name, a missing column make the whole file unreadable. Lines
//! that begin with `# ` are ours; it ignores them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Write};

use super::escape;
use crate::model::{FINEST_S, LossTotals, Mark, Metric, Process, Profile, Sample, coarsen};

/// How the series are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatOptions {
    /// MEM is the total of the tree.
    pub include_children: bool,
    /// A CHLD line for each descendant.
    pub multiprocess: bool,
    /// What the samples are.
    pub metric: Metric,
}

impl Default for DatOptions {
    fn default() -> Self {
        DatOptions {
            include_children: false,
            multiprocess: true,
            metric: Metric::Rss,
        }
    }
}

/// `mprof plot` needs 16 s for 3000 FUNC lines. When there are more, short calls are joined with
/// their neighbours; with more functions than this, those that changed RSS least are comments.
const MAX_FUNC_LINES: usize = 500;

/// Writes a .dat line by line, while the run goes on or afterwards.
#[derive(Debug)]
pub struct DatWriter<W> {
    out: W,
    options: DatOptions,
}

impl<W: Write> DatWriter<W> {
    /// A writer to `out`. The first line has to be [`DatWriter::cmdline`].
    pub fn new(out: W, options: DatOptions) -> Self {
        DatWriter { out, options }
    }

    /// The traced command: mprof's title of the plot.
    pub fn cmdline(&mut self, command: &str) -> io::Result<()> {
        let mut command = escape::line(command.trim());
        if command.is_empty() {
            command.push('?');
        }
        // matplotlib reads a title with two dollars as a formula, and the plot of `sh -c 'a $b
        // $c'` dies of it. Escaped, they are shown as they are.
        if command.matches('$').count() > 1 {
            command = command.replace('$', "\\$");
        }
        writeln!(self.out, "CMDLINE {command}")
    }

    /// What mprof has no place for, as comments: what the values are, and whose the series are.
    /// `processes` are pid, role, and whether MEM is its series.
    pub fn series<'a>(
        &mut self,
        processes: impl Iterator<Item = (u32, &'a str, bool)>,
    ) -> io::Result<()> {
        let metric = self.options.metric.name();
        let tree = match self.options.include_children {
            true => "yes",
            false => "no",
        };
        writeln!(self.out, "# SERIES metric={metric} include_children={tree}")?;
        for (pid, role, is_main) in processes {
            let keyword = if is_main { "MEM" } else { "CHLD" };
            writeln!(self.out, "# ROLE {keyword} {pid} {}", escape::line(role))?;
        }
        Ok(())
    }

    /// One sampling of all processes: the first target, and the others by pid. Once the first
    /// target has gone (`main` is None) there is no MEM line but under `include_children`.
    fn sample(&mut self, sweep: &Sweep) -> io::Result<()> {
        let epoch_s = sweep.epoch_s;
        if let Some(bytes) = sweep.shown(self.options.include_children) {
            writeln!(self.out, "MEM {:.6} {epoch_s:.4}", mib(bytes))?;
        }
        if self.options.multiprocess {
            for &(pid, bytes) in &sweep.children {
                writeln!(self.out, "CHLD {pid} {:.6} {epoch_s:.4}", mib(bytes))?;
            }
        }
        Ok(())
    }

    /// One call of a marked function. `pid` goes before the name for all but the process of the MEM
    /// lines, `mem` is the MEM series at the begin and the end of the call, `level` has the
    /// process's band added.
    fn func(
        &mut self,
        keyword: &str,
        mark: &Mark,
        (pid, is_main): (u32, bool),
        mem: (f64, f64),
        level: u32,
    ) -> io::Result<()> {
        let prefix = if is_main {
            String::new()
        } else {
            format!("{pid}/")
        };
        let approximate = if mark.approximate {
            " approximate=yes"
        } else {
            ""
        };
        writeln!(
            self.out,
            "{keyword} {prefix}{} {:.4} {:.4} {:.4} {:.4} {level} pid={pid} rss0={} rss1={} \
             calls={}{approximate}",
            escape::token(&mark.function),
            mem.0,
            mark.begin_epoch_s,
            mem.1,
            mark.end_epoch_s,
            mark.rss_begin,
            mark.rss_end,
            mark.calls,
        )
    }

    /// The last lines: what was lost (a comment to mprof), and a flush. Gives `out` back.
    pub fn finish(mut self, loss: &LossTotals) -> io::Result<W> {
        write!(
            self.out,
            "# LOSS events_lost={} stacks_truncated={} stacks_failed={} unknown_threads={}",
            loss.events_lost, loss.stacks_truncated, loss.stacks_failed, loss.unknown_threads
        )?;
        for (name, count) in &loss.other {
            write!(self.out, " {}={count}", escape::token(name))?;
        }
        writeln!(self.out)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Writes the whole .dat of a profile.
pub fn write(profile: &Profile, options: DatOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut dat = DatWriter::new(out, options);
    dat.cmdline(&profile.command)?;
    dat.series(told(profile).into_iter())?;
    let samples = samples(profile);
    let mut sweeps = sweeps(profile, &samples);
    if options.include_children {
        complete(profile, &samples, &mut sweeps);
    }
    let mut marks = profile.marks.clone();
    coarsen(&mut marks, MAX_FUNC_LINES, &mut FINEST_S.clone());
    let lines = func_lines(profile, &marks, &sweeps, options);
    sweeps.extend(
        lines
            .iter()
            .filter(|line| line.shown)
            .flat_map(FuncLine::ends),
    );
    sweeps.sort_by(|a, b| a.epoch_s.total_cmp(&b.epoch_s));
    for sweep in &sweeps {
        dat.sample(sweep)?;
    }
    for line in &lines {
        let keyword = if line.shown { "FUNC" } else { "# FUNC" };
        let whose = (line.pid, line.is_main);
        dat.func(keyword, line.mark, whose, line.mem, line.level)?;
    }
    dat.finish(&profile.loss)?;
    Ok(())
}

/// Pids and roles of the processes that the file has lines of (thousands may have ended unseen),
/// and whether MEM is their series.
fn told(profile: &Profile) -> Vec<(u32, &str, bool)> {
    let main = profile.samples.iter().find(|sample| sample.main);
    let main = main.map_or(0, |sample| sample.process);
    let samples = profile.samples.iter().map(|sample| sample.process);
    let marks = profile.marks.iter().map(|mark| mark.process);
    let told: BTreeSet<u32> = samples.chain(marks).chain([main]).collect();
    let told = told.into_iter().filter_map(|index| {
        let process = profile.processes.get(index as usize)?;
        Some((process.pid, process.role.as_str(), index == main))
    });
    told.collect()
}

/// The samples of all processes at one time.
#[derive(Debug)]
struct Sweep {
    epoch_s: f64,
    main: Option<u64>,
    children: Vec<(u32, u64)>,
}

impl Sweep {
    /// What its MEM line has.
    fn shown(&self, include_children: bool) -> Option<u64> {
        if !include_children {
            return self.main;
        }
        let children = self.children.iter();
        Some(children.fold(self.main.unwrap_or(0), |sum, child| {
            sum.saturating_add(child.1)
        }))
    }

    fn add(&mut self, sample: &Sample, process: &Process) {
        if sample.main {
            self.main = Some(self.main.unwrap_or(0).saturating_add(sample.bytes));
        } else {
            self.children.push((process.pid, sample.bytes));
        }
    }
}

/// Samples of one time make one sweep; a sample of the main process always begins one.
fn sweeps(profile: &Profile, samples: &[Sample]) -> Vec<Sweep> {
    let mut sweeps: Vec<Sweep> = Vec::new();
    for sample in samples {
        let Some(process) = profile.processes.get(sample.process as usize) else {
            continue;
        };
        let same = |sweep: &Sweep| sweep.epoch_s == sample.epoch_s;
        let new = match sweeps.last() {
            None => true,
            Some(last) if sample.main => last.main.is_some() || !same(last),
            Some(last) => !same(last),
        };
        if new {
            sweeps.push(Sweep {
                epoch_s: sample.epoch_s,
                main: None,
                children: Vec::new(),
            });
        }
        if let Some(last) = sweeps.last_mut() {
            last.add(sample, process);
        }
    }
    if sweeps.iter().all(|sweep| sweep.main.is_none()) {
        sweeps.splice(..0, ends(profile));
    }
    sweeps
}

/// By time. mprof's `plot -s` dies where all that a series has is of the file's first moment:
/// through that it finds no line. Such a process, which ended before the second sampling, is told
/// a second time, as it was, at its end.
fn samples(profile: &Profile) -> Vec<Sample> {
    // Times have four decimals.
    const NEXT_S: f64 = 0.0002;
    let mut samples = profile.samples.clone();
    samples.sort_by(|a, b| a.epoch_s.total_cmp(&b.epoch_s));
    let first = samples.first().map_or(0.0, |sample| sample.epoch_s);
    let second = samples.partition_point(|sample| sample.epoch_s < first + NEXT_S);
    let (begin, later) = samples.split_at(second);
    let again: HashSet<u32> = later.iter().map(|sample| sample.process).collect();
    let once = begin
        .iter()
        .filter(|sample| !again.contains(&sample.process));
    let ends: Vec<Sample> = once
        .map(|sample| {
            let process = profile.processes.get(sample.process as usize);
            let end = process.map_or(first, |process| process.last_epoch_s);
            Sample {
                epoch_s: end.max(first + NEXT_S),
                ..*sample
            }
        })
        .collect();
    samples.extend(ends);
    samples.sort_by(|a, b| a.epoch_s.total_cmp(&b.epoch_s));
    samples
}

/// For the total of the tree: a process that lives and has no sample in a sweep counts, in `main`,
/// with its last one. Very long runs keep one of several samples, and of each process another one.
/// One that ends has none from its last one on: what it shared is PSS of the others by then.
fn complete(profile: &Profile, samples: &[Sample], sweeps: &mut [Sweep]) {
    sweeps.sort_by(|a, b| a.epoch_s.total_cmp(&b.epoch_s));
    let ends = samples
        .iter()
        .map(|sample| (sample.process, sample.epoch_s));
    let ends: HashMap<u32, f64> = ends.collect();
    let mut samples = samples.iter().peekable();
    let mut last: HashMap<u32, &Sample> = HashMap::new();
    for sweep in sweeps {
        while let Some(sample) = samples.next_if(|sample| sample.epoch_s <= sweep.epoch_s) {
            last.insert(sample.process, sample);
        }
        last.retain(|index, _| {
            let process = profile.processes.get(*index as usize);
            let stays = process.is_some_and(|process| !process.exited);
            stays || ends.get(index).is_some_and(|&end| end > sweep.epoch_s)
        });
        let missing = last.values().filter(|last| last.epoch_s < sweep.epoch_s);
        let missing = missing.fold(0u64, |sum, last| sum.saturating_add(last.bytes));
        sweep.main = Some(sweep.main.unwrap_or(0).saturating_add(missing));
    }
}

/// A file without MEM is an error to mprof: a run too short to sample shows its two ends.
fn ends(profile: &Profile) -> Vec<Sweep> {
    let process = profile.processes.first().cloned().unwrap_or_default();
    let sweep = |epoch_s, bytes| Sweep {
        epoch_s,
        main: Some(bytes),
        children: Vec::new(),
    };
    vec![
        sweep(profile.started_epoch_s, process.rss_start),
        sweep(
            profile.started_epoch_s + profile.duration_s,
            process.rss_end,
        ),
    ]
}

/// A call as the file shows it.
struct FuncLine<'a> {
    mark: &'a Mark,
    pid: u32,
    is_main: bool,
    /// The MEM series at the begin and the end of the call, MiB.
    mem: (f64, f64),
    /// With the process's band added.
    level: u32,
    /// False when it is only a comment.
    shown: bool,
}

impl FuncLine<'_> {
    /// MEM at its begin and its end: mprof's `peak --func` fails when no MEM line lies within.
    fn ends(&self) -> [Sweep; 2] {
        let bytes = |mib: f64| (mib * f64::from(1 << 20)).round() as u64;
        let sweep = |epoch_s, mib| Sweep {
            epoch_s,
            main: Some(bytes(mib)),
            children: Vec::new(),
        };
        [
            sweep(self.mark.begin_epoch_s, self.mem.0),
            sweep(self.mark.end_epoch_s, self.mem.1),
        ]
    }
}

fn func_lines<'a>(
    profile: &Profile,
    marks: &'a [Mark],
    sweeps: &[Sweep],
    options: DatOptions,
) -> Vec<FuncLine<'a>> {
    let series = Series::new(sweeps, options.include_children);
    let bands = bands(profile);
    // The main process of samples; without any, the first.
    let main = profile.samples.iter().find(|sample| sample.main);
    let main = main.map_or(0, |sample| sample.process);
    let line = |(mark, shown): (&'a Mark, bool)| {
        let process = profile.processes.get(mark.process as usize)?;
        let is_main = mark.process == main;
        // The plot joins FUNC's values with MEM's into one curve: what is not of that series has
        // to be read from it, or the curve saws up and down.
        let exact = is_main && !options.include_children && options.metric == Metric::Rss;
        let mem = if exact {
            (mib(mark.rss_begin), mib(mark.rss_end))
        } else {
            (series.at(mark.begin_epoch_s), series.at(mark.end_epoch_s))
        };
        let band = bands.get(mark.process as usize).copied().unwrap_or(0);
        Some(FuncLine {
            mark,
            pid: process.pid,
            is_main,
            mem,
            level: band.saturating_add(mark.level),
            shown,
        })
    };
    marks.iter().zip(largest(marks)).filter_map(line).collect()
}

/// Which marks become FUNC lines: those that changed RSS most, then the longest.
fn largest(marks: &[Mark]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..marks.len()).collect();
    if order.len() > MAX_FUNC_LINES {
        let rank = |&index: &usize| {
            let mark = &marks[index];
            let length = mark.end_epoch_s - mark.begin_epoch_s;
            (mark.rss_end.abs_diff(mark.rss_begin), length)
        };
        order.sort_by(|a, b| {
            let (a, b) = (rank(a), rank(b));
            b.0.cmp(&a.0).then(b.1.total_cmp(&a.1))
        });
        order.truncate(MAX_FUNC_LINES);
    }
    let mut kept = vec![false; marks.len()];
    for index in order {
        kept[index] = true;
    }
    kept
}

/// The first level of each process: mprof's flame draws a row a level and knows no processes.
fn bands(profile: &Profile) -> Vec<u32> {
    let mut levels: Vec<Option<u32>> = vec![None; profile.processes.len()];
    for mark in &profile.marks {
        if let Some(level) = levels.get_mut(mark.process as usize) {
            *level = Some(level.unwrap_or(0).max(mark.level));
        }
    }
    let mut next = 0u32;
    let band = |level: Option<u32>| {
        let band = next;
        if let Some(level) = level {
            next = next.saturating_add(level).saturating_add(1);
        }
        band
    };
    levels.into_iter().map(band).collect()
}

/// MEM over time, to be read between the samples.
struct Series(Vec<(f64, f64)>);

impl Series {
    fn new(sweeps: &[Sweep], include_children: bool) -> Series {
        let point = |sweep: &Sweep| Some((sweep.epoch_s, mib(sweep.shown(include_children)?)));
        let mut points: Vec<(f64, f64)> = sweeps.iter().filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series(points)
    }

    fn at(&self, epoch_s: f64) -> f64 {
        let after = self.0.partition_point(|point| point.0 < epoch_s);
        let before = after.checked_sub(1).and_then(|index| self.0.get(index));
        match (before, self.0.get(after)) {
            (Some(a), Some(b)) if b.0 > a.0 => a.1 + (b.1 - a.1) * (epoch_s - a.0) / (b.0 - a.0),
            (_, Some(only)) | (Some(only), None) => only.1,
            (None, None) => 0.0,
        }
    }
}
