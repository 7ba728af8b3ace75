//! Time by depth: a band a process, a row a depth of marked calls, a box a call, coloured by what
//! memory grew by while it ran.

use std::collections::HashMap;

use super::axis::{Range, change};
use super::brackets::told;
use super::data::{Call, Data};
use super::font;
use super::names;
use super::scene::{Anchor, Frame, Item, Scene, Text};
use super::theme::{HEAT_STEPS, Ink};

/// Height of a row.
const ROW: f64 = 20.0;
/// Height of the line that names a process.
const HEADER: f64 = 20.0;
/// Between two bands.
const GAP: f64 = 10.0;
/// Size of the letters on a box.
const SIZE: f64 = 11.0;
/// Between a letter and the edge of its box.
const PADDING: f64 = 4.0;
/// Processes that get a band: those whose calls changed memory most.
const MAX_LANES: usize = 24;
/// Rows of a band.
const MAX_ROWS: usize = 64;
/// Memory is counted in pages: less is no growth.
const PAGE: f64 = 4096.0;

/// The calls of a recording, laid into rows.
pub struct Flame<'a> {
    lanes: Vec<Lane<'a>>,
    labels: HashMap<&'a str, &'a str>,
    /// The largest change of a call, in bytes.
    largest: f64,
    /// Processes and calls for which there was no place.
    left_out: (usize, usize),
}

struct Lane<'a> {
    title: (String, String),
    rows: Vec<Vec<&'a Call>>,
    change: f64,
}

impl<'a> Flame<'a> {
    /// Lays the calls of `data` into bands and rows.
    pub fn new(data: &'a Data) -> Flame<'a> {
        let mut by_process: Vec<(Option<u32>, Vec<&Call>)> = Vec::new();
        let mut places: HashMap<Option<u32>, usize> = HashMap::new();
        for call in &data.calls {
            let next = by_process.len();
            let place = *places.entry(call.pid).or_insert(next);
            if place == next {
                by_process.push((call.pid, Vec::new()));
            }
            by_process[place].1.push(call);
        }
        let mut left_out = (0, 0);
        let lanes = by_process.into_iter().map(|(pid, calls)| {
            let change = calls.iter().map(|call| call.growth().abs()).sum();
            let title = title(data, pid, &calls);
            let (rows, beyond) = rows(calls);
            left_out.1 += beyond;
            (
                pid,
                Lane {
                    title,
                    rows,
                    change,
                },
            )
        });
        let mut lanes: Vec<(Option<u32>, Lane<'_>)> = lanes.collect();
        lanes.sort_by(|a, b| b.1.change.total_cmp(&a.1.change));
        left_out.0 = lanes.len().saturating_sub(MAX_LANES);
        lanes.truncate(MAX_LANES);
        // Of those that stay, the main process first, then by pid.
        lanes.sort_by_key(|(pid, _)| *pid);
        let growths = data.calls.iter().map(|call| call.growth().abs());
        Flame {
            lanes: lanes.into_iter().map(|(_, lane)| lane).collect(),
            labels: names::shortest(data.calls.iter().map(|call| call.function.as_str())),
            largest: growths.fold(PAGE, f64::max),
            left_out,
        }
    }

    /// The bands from top to bottom: whose, what follows that is never cut, and its rows of calls.
    pub fn bands(&self) -> impl Iterator<Item = (&str, &str, &[Vec<&'a Call>])> {
        self.lanes.iter().map(|lane| {
            let (name, tail) = &lane.title;
            (name.as_str(), tail.as_str(), lane.rows.as_slice())
        })
    }

    /// The shortest name of a call's function, as it is shown.
    pub fn label(&self, call: &Call) -> String {
        let name = call.function.as_str();
        let label = self.labels.get(name).copied().unwrap_or(name);
        names::shown(label, call.approximate)
    }

    /// Height of all bands.
    pub fn height(&self) -> f64 {
        let lanes: f64 = self.lanes.iter().map(Lane::height).sum();
        let note = if self.left_out == (0, 0) { 0.0 } else { HEADER };
        lanes + note
    }

    /// Draws what is behind the boxes, from the top of `frame`: what stands before the grid.
    pub fn draw_bands(&self, scene: &mut Scene, frame: Frame) {
        let mut top = frame.y;
        for lane in &self.lanes {
            let band = Frame {
                y: top + GAP + HEADER,
                height: ROW * lane.rows.len() as f64,
                ..frame
            };
            scene.rect(band, Ink::Panel);
            top += lane.height();
        }
    }

    /// Draws the boxes and the names of the bands, from the top of `frame`.
    pub fn draw(&self, scene: &mut Scene, frame: Frame, time_s: Range) {
        let mut top = frame.y;
        for lane in &self.lanes {
            self.draw_lane(scene, lane, Frame { y: top, ..frame }, time_s);
            top += lane.height();
        }
        if let Some(note) = self.note() {
            scene.text((frame.x, top + 14.0), SIZE, Ink::Muted, note);
        }
    }

    /// One sentence on what had no place.
    pub fn note(&self) -> Option<String> {
        match self.left_out {
            (0, 0) => None,
            (0, calls) => Some(format!("{calls} calls in deeper rows are not drawn")),
            (lanes, _) => Some(format!("{lanes} processes with less change are not drawn")),
        }
    }

    fn draw_lane(&self, scene: &mut Scene, lane: &Lane<'_>, frame: Frame, time_s: Range) {
        let top = frame.y + GAP + HEADER;
        let (name, tail) = &lane.title;
        let room = frame.width - font::width(tail, 12.0);
        let title = font::fit(name, 12.0, room) + tail;
        scene.items.push(Item::Text(Text {
            x: frame.x,
            y: top - 6.0,
            size: 12.0,
            anchor: Anchor::Start,
            ink: Ink::Text,
            text: title,
            halo: true,
        }));
        for (index, row) in lane.rows.iter().enumerate() {
            let place = Frame {
                y: top + ROW * index as f64,
                height: ROW,
                ..frame
            };
            self.draw_row(scene, row, place, time_s);
        }
    }

    fn draw_row(&self, scene: &mut Scene, row: &[&Call], place: Frame, time_s: Range) {
        let x = |time: f64| {
            let share = (time - time_s.begin) / time_s.span();
            place.x + share.clamp(0.0, 1.0) * place.width
        };
        let column = |call: &Call| (x(call.begin.time_s).floor(), x(call.end.time_s).floor());
        // Calls within one column of pixels: the one that changed most stands for them.
        let narrow = |call: &Call| column(call).0 == column(call).1;
        let same = |a: &&Call, b: &&Call| narrow(a) && narrow(b) && column(a) == column(b);
        for group in row.chunk_by(same) {
            let by_change = |a: &&&Call, b: &&&Call| a.growth().abs().total_cmp(&b.growth().abs());
            let Some(call) = group.iter().max_by(by_change) else {
                continue;
            };
            let begin = x(call.begin.time_s);
            let frame = Frame {
                x: begin,
                y: place.y + 1.0,
                // A hair between neighbours; never nothing.
                width: (x(call.end.time_s) - begin - 0.5).max(1.0),
                height: ROW - 2.0,
            };
            let more = match group.len() {
                1 => String::new(),
                calls => format!(" (and {} more calls here)", calls - 1),
            };
            self.draw_box(scene, call, frame, told(call) + &more);
        }
    }

    fn draw_box(&self, scene: &mut Scene, call: &Call, frame: Frame, hover: String) {
        let step = self.step(call.growth());
        scene.items.push(Item::Rect {
            frame,
            ink: Ink::Heat(step),
            radius: if frame.width > 6.0 { 2.0 } else { 0.0 },
            hover: Some(hover),
        });
        let name = self.label(call);
        let room = frame.width - 2.0 * PADDING;
        let with_growth = format!("{name}  {}", change(call.growth()));
        let text = match font::width(&with_growth, SIZE) <= room {
            true => with_growth,
            false => font::fit(&name, SIZE, room),
        };
        if !text.is_empty() {
            let at = (frame.x + PADDING, frame.y + frame.height - 5.0);
            scene.text(at, SIZE, Ink::OnHeat(step), text);
        }
    }

    /// The colour of a change. Steps grow with the square root: a tenth of the largest change is
    /// seen, and the largest still stands out.
    pub fn step(&self, growth: f64) -> i8 {
        if growth.abs() < PAGE {
            return 0;
        }
        let share = (growth.abs() / self.largest).sqrt();
        let step = (share * f64::from(HEAT_STEPS)).ceil() as i8;
        step.clamp(1, HEAT_STEPS) * if growth < 0.0 { -1 } else { 1 }
    }

    /// Height of the key of colours.
    pub fn key_height(&self) -> f64 {
        70.0
    }

    /// What the colours mean.
    pub fn draw_key(&self, scene: &mut Scene, (x, y): (f64, f64)) {
        const CELL: f64 = 18.0;
        let top = y + 24.0;
        scene.text(
            (x, y + 16.0),
            12.0,
            Ink::Text,
            "memory growth during the call",
        );
        for step in -HEAT_STEPS..=HEAT_STEPS {
            let frame = Frame {
                x: x + f64::from(step + HEAT_STEPS) * CELL,
                y: top,
                width: CELL,
                height: 12.0,
            };
            scene.rect(frame, Ink::Heat(step));
        }
        let width = CELL * f64::from(2 * HEAT_STEPS + 1);
        let below = top + 26.0;
        scene.text((x, below), SIZE, Ink::Muted, change(-self.largest));
        let middle = (x + width / 2.0, below);
        scene.anchored(middle, SIZE, Ink::Muted, Anchor::Middle, "0");
        let end = (x + width, below);
        scene.anchored(end, SIZE, Ink::Muted, Anchor::End, change(self.largest));
    }
}

impl Lane<'_> {
    fn height(&self) -> f64 {
        GAP + HEADER + ROW * self.rows.len() as f64
    }
}

/// Whose a band is, and what follows that is never cut.
fn title(data: &Data, pid: Option<u32>, calls: &[&Call]) -> (String, String) {
    let curve = calls.iter().find_map(|call| call.curve);
    let curve = curve.and_then(|index| data.curves.get(index));
    let (name, shown_pid) = match (curve, pid) {
        // Its curve may be the total.
        (_, None) => (data.main.0.clone(), data.main.1.as_str()),
        (Some(curve), _) => (curve.label.clone(), curve.pid.as_str()),
        (None, Some(pid)) => (format!("process {pid}"), ""),
    };
    let count = calls.iter().map(|call| call.calls).sum::<u64>();
    let calls = if count == 1 { "call" } else { "calls" };
    (name, format!("{shown_pid} · {count} {calls}"))
}

/// A group of rows in which calls of one thread (or greenlet) can lie: those of depth n in row n.
#[derive(Default)]
struct Track<'a> {
    rows: Vec<Vec<&'a Call>>,
}

impl<'a> Track<'a> {
    fn last(&self, level: usize) -> Option<&Call> {
        self.rows.get(level)?.last().copied()
    }

    /// Whether nothing else is at its depth.
    fn is_free(&self, call: &Call) -> bool {
        let last = self.last(call.level as usize);
        last.is_none_or(|other| other.end.time_s <= call.begin.time_s)
    }

    /// What is open here and may have made the call.
    fn caller(&self, call: &Call) -> Option<&Call> {
        let above = (call.level as usize).checked_sub(1)?;
        let caller = self.last(above)?;
        (caller.end.time_s >= call.end.time_s).then_some(caller)
    }

    /// Whether nothing is open here that the call would hang under wrongly: its caller may not be
    /// marked, or may have been cut away.
    fn has_no_caller(&self, call: &Call) -> bool {
        let above = (call.level as usize).checked_sub(1);
        let caller = above.and_then(|above| self.last(above));
        caller.is_none_or(|other| other.end.time_s <= call.begin.time_s)
    }

    fn put(&mut self, call: &'a Call) {
        let level = call.level as usize;
        while self.rows.len() <= level {
            self.rows.push(Vec::new());
        }
        self.rows[level].push(call);
    }
}

/// Rows of calls that do not overlap: of concurrent threads each in rows of its own. Calls beyond
/// the last row are counted.
fn rows(calls: Vec<&Call>) -> (Vec<Vec<&Call>>, usize) {
    let mut tracks: Vec<Track<'_>> = Vec::new();
    let mut beyond = 0;
    let mut used = 0;
    for call in calls {
        if call.level as usize >= MAX_ROWS {
            beyond += 1;
            continue;
        }
        let free = tracks.iter().enumerate();
        let free = free.filter(|(_, track)| track.is_free(call));
        // Of several that may have made it, the one that began last: whoever waits does not call.
        let callers = free.clone();
        let callers = callers.filter_map(|(place, track)| Some((place, track.caller(call)?)));
        let latest = callers.max_by(|a, b| a.1.begin.time_s.total_cmp(&b.1.begin.time_s));
        let mut apart = free.filter(|(_, track)| track.has_no_caller(call));
        let place = match latest {
            Some((place, _)) => Some(place),
            None => apart.next().map(|(place, _)| place),
        };
        match place {
            Some(place) => tracks[place].put(call),
            // More at once than there are rows.
            None if used > MAX_ROWS => beyond += 1,
            None => {
                let mut track = Track::default();
                track.put(call);
                tracks.push(track);
            }
        }
        used = tracks.iter().map(|track| track.rows.len()).sum();
    }
    let rows = tracks.into_iter().flat_map(|track| track.rows);
    (rows.filter(|row| !row.is_empty()).collect(), beyond)
}

#[cfg(test)]
#[path = "flame_tests.rs"]
mod tests;
