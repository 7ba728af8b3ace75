//! Where numbers lie on the paper, and which of them are written at an axis.

use super::scene::Frame;

/// A range of numbers; the end is larger than the begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The lowest number shown.
    pub begin: f64,
    /// The highest number shown.
    pub end: f64,
}

impl Range {
    /// How much it spans.
    pub fn span(&self) -> f64 {
        self.end - self.begin
    }
}

/// One number at an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// The number.
    pub at: f64,
    /// How it is written, without its unit.
    pub label: String,
}

/// The numbers of an axis, in one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// `MiB`, `s`, …
    pub unit: &'static str,
    /// From low to high.
    pub ticks: Vec<Tick>,
}

/// From data to pixels.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The paper.
    pub frame: Frame,
    /// Seconds, from left to right.
    pub time_s: Range,
    /// Bytes, from the lower edge to the upper one.
    pub bytes: Range,
}

impl Scale {
    /// Where a time is.
    pub fn x(&self, time_s: f64) -> f64 {
        let share = (time_s - self.time_s.begin) / self.time_s.span();
        self.frame.x + share * self.frame.width
    }

    /// Where an amount is.
    pub fn y(&self, bytes: f64) -> f64 {
        let share = (bytes - self.bytes.begin) / self.bytes.span();
        self.frame.bottom() - share * self.frame.height
    }
}

/// Units of memory, with their bytes.
const BYTES: [(&str, f64); 6] = [
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1048576.0),
    ("GiB", 1073741824.0),
    ("TiB", 1099511627776.0),
    ("PiB", 1125899906842624.0),
];

/// Units of time, with their seconds.
const SECONDS: [(&str, f64); 4] = [("s", 1.0), ("min", 60.0), ("h", 3600.0), ("days", 86400.0)];

/// An axis of memory with about `count` numbers.
pub fn bytes(range: Range, count: f64) -> Axis {
    // A unit in which the highest number has at least one digit before the point.
    let largest = range.end.abs().max(range.begin.abs());
    let unit = BYTES.iter().rev().find(|(_, size)| *size <= largest);
    axis(range, count, *unit.unwrap_or(&BYTES[0]))
}

/// An axis of time with about `count` numbers.
pub fn seconds(range: Range, count: f64) -> Axis {
    axis(range, count, unit_of_time(range.span()))
}

/// The unit for such a length. Minutes begin at ten of them, hours and days too: `--window` is
/// asked for in seconds.
fn unit_of_time(length_s: f64) -> (&'static str, f64) {
    const FROM: f64 = 10.0;
    let unit = SECONDS.iter().rev();
    let unit = unit
        .filter(|(_, size)| *size * FROM <= length_s)
        .find(|(name, _)| *name != "s");
    *unit.unwrap_or(&SECONDS[0])
}

/// A length of time in words: `50 ms`, `10.2 s`, `10.0 h`.
pub fn length(length_s: f64) -> String {
    if length_s > 0.0 && length_s < 0.9995 {
        return format!("{:.0} ms", length_s * 1e3);
    }
    let (unit, size) = unit_of_time(length_s);
    format!("{:.1} {unit}", length_s / size)
}

fn axis(range: Range, count: f64, (unit, size): (&'static str, f64)) -> Axis {
    let step = nice(range.span() / size / count);
    // As many decimals as the step has.
    let whole = |decimals: &usize| {
        let scaled = step * 10f64.powi(*decimals as i32);
        (scaled - scaled.round()).abs() < 1e-6 * scaled
    };
    let decimals = (0..9).find(whole).unwrap_or(9);
    // What lies on the edge but for the error of floating point is inside.
    const NEARLY: f64 = 1e-9;
    let first = (range.begin / size / step - NEARLY).ceil();
    let last = (range.end / size / step + NEARLY).floor();
    // A step is at least a fifth of what was asked for, so that this is bounded.
    let ticks = (0..=(last - first).clamp(0.0, 100.0) as u32).map(|index| {
        let number = (first + f64::from(index)) * step;
        // Not "-0".
        let number = if number.abs() < step / 2.0 {
            0.0
        } else {
            number
        };
        Tick {
            at: number * size,
            label: format!("{number:.decimals$}"),
        }
    });
    let ticks = match last >= first {
        true => ticks.collect(),
        false => Vec::new(),
    };
    Axis { unit, ticks }
}

/// The next of 1, 2, 2.5, 5 × 10ⁿ that is not below `step`.
fn nice(step: f64) -> f64 {
    let decade = 10f64.powf(step.max(1e-9).log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
    let factor = factors
        .into_iter()
        .find(|factor| factor * decade >= step * 0.999);
    factor.unwrap_or(10.0) * decade
}

/// The range of an axis of memory that shows all between `lowest` and `highest`: from zero when
/// the curve would fill half of that anyway, else with a rim.
pub fn bytes_range(lowest: f64, highest: f64) -> Range {
    // Room for the words at the peak.
    const RIM: f64 = 0.09;
    // A curve that does not move is a line in the middle, not noise blown up.
    const LEAST_SPAN: f64 = 65536.0;
    if lowest < highest * 0.5 || highest < LEAST_SPAN {
        let end = highest.max(LEAST_SPAN);
        return Range {
            begin: 0.0,
            end: end * (1.0 + RIM),
        };
    }
    let span = (highest - lowest).max(highest * 0.02).max(LEAST_SPAN);
    let middle = (lowest + highest) / 2.0;
    Range {
        begin: (middle - span * (0.5 + RIM)).max(0.0),
        end: middle + span * (0.5 + RIM),
    }
}

/// An amount in words: `31.2 MiB`, with a sign when it is a change.
pub fn amount(bytes: f64) -> String {
    crate::report::size(bytes.max(0.0).round() as u64)
}

/// A change in words: `+31.2 MiB`, `−4.0 KiB`, `±0`.
pub fn change(bytes: f64) -> String {
    let size = crate::report::size(bytes.abs().round() as u64);
    match bytes.round() {
        0.0 => "±0".to_owned(),
        bytes if bytes > 0.0 => format!("+{size}"),
        _ => format!("−{size}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn numbers_of_an_axis_are_round() {
        let mib = 1048576.0;
        let range = |begin, end| Range { begin, end };
        let axis = bytes(range(0.0, 110.0 * mib), 6.0);
        assert_eq!(axis.unit, "MiB");
        assert_eq!(labels(&axis), ["0", "20", "40", "60", "80", "100"]);
        let axis = bytes(range(20.1 * mib, 20.4 * mib), 6.0);
        assert_eq!(
            labels(&axis),
            [
                "20.10", "20.15", "20.20", "20.25", "20.30", "20.35", "20.40"
            ]
        );
        let axis = seconds(range(0.0, 3.4), 8.0);
        assert_eq!((axis.unit, axis.ticks.len()), ("s", 7));
        assert_eq!(seconds(range(0.0, 7200.0), 8.0).unit, "min");
        assert_eq!(seconds(range(-1.0, 1.0), 4.0).ticks[2].label, "0.0");
    }

    #[test]
    fn a_range_shows_growth_of_a_large_process_and_zero_of_a_small_one() {
        let range = bytes_range(1e9, 1.05e9);
        assert!(range.begin > 0.9e9 && range.end < 1.1e9);
        assert_eq!(bytes_range(1e6, 9e6).begin, 0.0);
        let flat = bytes_range(5e8, 5e8);
        assert!(flat.begin < 5e8 && flat.end > 5e8);
        assert!(bytes_range(0.0, 0.0).span() > 0.0);
    }

    #[test]
    fn a_length_of_time_has_a_unit_that_fits() {
        assert_eq!(length(0.05), "50 ms");
        assert_eq!(length(0.9999), "1.0 s");
        assert_eq!(length(10.24), "10.2 s");
        assert_eq!(length(599.0), "599.0 s");
        assert_eq!(length(5400.0), "90.0 min");
        assert_eq!(length(36000.0), "10.0 h");
        assert_eq!(length(0.0), "0.0 s");
    }

    #[test]
    fn a_change_has_its_sign() {
        assert_eq!(change(1048576.0), "+1.0 MiB");
        assert_eq!(change(-2048.0), "−2.0 KiB");
        assert_eq!(change(0.2), "±0");
    }
}
