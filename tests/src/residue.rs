//! Nothing may stay attached: compares the kernel's BPF programs and links before and after.
//!
//! Other tracers may come and go on the machine meanwhile, so a new program counts only when no
//! living process holds it: that is what a pin or a forgotten attachment looks like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::machine;
use crate::process::within;

/// The BPF objects that were there before.
pub struct Residue {
    bpftool: PathBuf,
    before: BTreeMap<&'static str, BTreeSet<u64>>,
}

/// `bpftool` words of what a tracer could leave behind.
const KINDS: [&str; 3] = ["prog", "link", "map"];

impl Residue {
    /// Remembers what is there now.
    pub fn watch() -> Result<Residue, String> {
        let bpftool = machine::bpftool()?;
        let mut before = BTreeMap::new();
        for kind in KINDS {
            let ids = list(&bpftool, kind)?.iter().filter_map(id).collect();
            before.insert(kind, ids);
        }
        Ok(Residue { bpftool, before })
    }

    /// Panics when something new stays that nobody holds. The kernel frees programs after a grace
    /// period, so it is given a few seconds.
    #[track_caller]
    pub fn assert_none(&self) {
        let freed = within(Duration::from_secs(10), || {
            self.left().is_empty().then_some(())
        });
        assert!(freed.is_some(), "stays attached:\n{}", self.left());
    }

    /// What is new and held by no process, one line each.
    #[track_caller]
    pub fn left(&self) -> String {
        let mut left = String::new();
        for kind in KINDS {
            let rows = list(&self.bpftool, kind).unwrap_or_else(|why| panic!("{why}"));
            for row in rows {
                let new = id(&row).is_some_and(|id| !self.before[kind].contains(&id));
                if new && !held(&row) {
                    left.push_str(&format!("{kind} {row}\n"));
                }
            }
        }
        left
    }
}

fn id(row: &Value) -> Option<u64> {
    row.get("id")?.as_u64()
}

fn held(row: &Value) -> bool {
    row.get("pids")
        .and_then(Value::as_array)
        .is_some_and(|pids| !pids.is_empty())
}

/// bpftool asks for one id after the other and gives up at the first that is being freed, as some
/// are while a tracer ends: then it is asked again.
fn list(bpftool: &Path, kind: &str) -> Result<Vec<Value>, String> {
    let mut failure = String::new();
    let rows = within(Duration::from_secs(10), || match list_once(bpftool, kind) {
        Ok(rows) => Some(rows),
        Err(why) => {
            failure = why;
            None
        }
    });
    rows.ok_or(failure)
}

fn list_once(bpftool: &Path, kind: &str) -> Result<Vec<Value>, String> {
    let output = Command::new(bpftool)
        .args(["-j", kind, "list"])
        .output()
        .map_err(|e| format!("bpftool: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "bpftool {kind} list: {}",
            String::from_utf8_lossy(&output.stdout)
        ));
    }
    match serde_json::from_slice(&output.stdout) {
        Ok(Value::Array(rows)) => Ok(rows),
        other => Err(format!("bpftool {kind} list: {other:?}")),
    }
}
