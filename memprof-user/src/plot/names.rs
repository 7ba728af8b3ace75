//! The shortest names by which functions can be told apart, as mprof labels its brackets.

use std::collections::{BTreeSet, HashMap};

/// For each name the fewest of its last dotted parts that no other name ends in.
pub fn shortest<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, &'a str> {
    let names: BTreeSet<&str> = names.collect();
    let mut labels = HashMap::new();
    let mut open: Vec<&str> = names.into_iter().collect();
    let mut parts = 1;
    while !open.is_empty() {
        let mut users: HashMap<&str, Vec<&str>> = HashMap::new();
        for name in open.drain(..) {
            users.entry(last(name, parts)).or_default().push(name);
        }
        for (label, names) in users {
            match names.as_slice() {
                [name] => drop(labels.insert(*name, label)),
                // A name that is the whole end of another has no more parts to tell.
                _ => {
                    for name in names {
                        if label == name {
                            labels.insert(name, label);
                        } else {
                            open.push(name);
                        }
                    }
                }
            }
        }
        parts += 1;
    }
    labels
}

/// A name with a sign before it when begin and end of the calls are guessed; [`APPROXIMATE`] says
/// what it means.
pub fn shown(label: &str, approximate: bool) -> String {
    let sign = if approximate { "~" } else { "" };
    format!("{sign}{label}")
}

/// For the legend.
pub const APPROXIMATE: &str = "~: approximate, from stacks";

/// The last `parts` parts of a dotted name. Dots within `<locals>` count as any other.
fn last(name: &str, parts: usize) -> &str {
    let cut = name.rmatch_indices('.').nth(parts - 1);
    cut.map_or(name, |(dot, _)| &name[dot + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_as_short_as_the_others_allow() {
        let names = ["a.b.run", "a.c.run", "a.c.stop", "run", "z.run"];
        let labels = shortest(names.into_iter());
        assert_eq!(labels["a.b.run"], "b.run");
        assert_eq!(labels["a.c.run"], "c.run");
        assert_eq!(labels["a.c.stop"], "stop");
        assert_eq!(labels["run"], "run");
        assert_eq!(labels["z.run"], "z.run");
    }
}
