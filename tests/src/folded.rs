//! Reader of the folded stacks, strict in what the contract promises.

/// One line: `ROOT;frame;…;frame BYTES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `role (pid)`.
    pub root: String,
    /// Outermost first.
    pub frames: Vec<Frame>,
    /// Weight.
    pub bytes: u64,
}

/// One frame: `qualname (file:LINE)`, or a name in brackets with no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Qualified name, or `[kind]`.
    pub name: String,
    /// Path; empty for a kind.
    pub file: String,
    /// Line; 0 for a kind, and when it is not known.
    pub line: u32,
}

impl Frame {
    #[track_caller]
    fn parse(text: &str) -> Frame {
        if text.starts_with('[') && text.ends_with(']') {
            return Frame {
                name: text.into(),
                file: String::new(),
                line: 0,
            };
        }
        let parts = || {
            let (name, place) = text.strip_suffix(')')?.rsplit_once(" (")?;
            // A line that is not known is left out; a path may have colons of its own.
            let known = place
                .rsplit_once(':')
                .and_then(|(file, line)| Some((file, line.parse().ok()?)));
            let (file, line) = known.unwrap_or((place, 0));
            Some(Frame {
                name: name.into(),
                file: file.into(),
                line,
            })
        };
        parts().unwrap_or_else(|| panic!("no frame: {text:?}"))
    }

    /// True for a frame of this function of a source file with this name.
    pub fn is(&self, function: &str, file: &str) -> bool {
        self.name == function && self.file.ends_with(&format!("/{file}"))
    }
}

impl std::fmt::Display for Frame {
    /// As it stands in the file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", 0) => write!(f, "{}", self.name),
            (file, 0) => write!(f, "{} ({file})", self.name),
            (file, line) => write!(f, "{} ({file}:{line})", self.name),
        }
    }
}

impl Row {
    /// The pid in the root.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.root
            .strip_suffix(')')
            .and_then(|root| root.rsplit_once(" ("))
            .and_then(|(_, pid)| pid.parse().ok())
            .unwrap_or_else(|| panic!("no `role (pid)`: {:?}", self.root))
    }
}

/// Reads a folded file; panics when it is not sorted, not merged, or a line is malformed.
#[track_caller]
pub fn parse(text: &str) -> Vec<Row> {
    let stacks: Vec<&str> = text
        .lines()
        .map(|line| {
            line.rsplit_once(' ')
                .unwrap_or_else(|| panic!("no weight: {line:?}"))
                .0
        })
        .collect();
    for pair in stacks.windows(2) {
        assert!(
            pair[0] < pair[1],
            "not sorted or not merged: {:?} then {:?}",
            pair[0],
            pair[1]
        );
    }
    text.lines()
        .map(|line| {
            let (stack, bytes) = line.rsplit_once(' ').expect("checked above");
            let mut parts = stack.split(';');
            Row {
                root: parts.next().unwrap_or_default().into(),
                frames: parts.map(Frame::parse).collect(),
                bytes: bytes
                    .parse()
                    .unwrap_or_else(|e| panic!("weight of {line:?}: {e}")),
            }
        })
        .collect()
}

/// Bytes under a function in one process, counted once a stack.
pub fn bytes_under(rows: &[Row], pid: u32, function: &str, file: &str) -> u64 {
    rows.iter()
        .filter(|row| row.pid() == pid && row.frames.iter().any(|f| f.is(function, file)))
        .map(|row| row.bytes)
        .sum()
}

/// The lines on which a function stands in the stacks of one process, sorted.
pub fn lines_under(rows: &[Row], pid: u32, function: &str, file: &str) -> Vec<u32> {
    let mut lines: Vec<u32> = rows
        .iter()
        .filter(|row| row.pid() == pid)
        .flat_map(|row| row.frames.iter())
        .filter(|frame| frame.is(function, file))
        .map(|frame| frame.line)
        .collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}
