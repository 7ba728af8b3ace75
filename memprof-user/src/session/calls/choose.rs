//! Which of the functions that a process has are marked, and which of them go first.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Calls, Chosen, Correction, says};
use crate::bpf::Tables;
use crate::error::Result;
use crate::python::FoundFunction;
use crate::python::patterns::Fit;

/// Functions that one name may mean in a process; a name that means more was a mistake.
const MOST_MATCHES: usize = 100;

impl Calls {
    /// Has the calls of those of these functions watched that a name means.
    pub(super) fn choose(
        &mut self,
        tables: &mut Tables,
        pid: u32,
        fresh: Vec<FoundFunction>,
    ) -> Result<()> {
        let Some(process) = self.processes.get_mut(&pid) else {
            return Ok(());
        };
        let mut changed = false;
        for function in fresh {
            let fits = self.patterns.iter().enumerate();
            let fits = fits.filter_map(|(at, one)| Some((at, one.fit(&function.naming)?)));
            let fits = fits.filter(|(at, _)| !process.refused.contains(at));
            let Some((pattern, fit)) = fits.max_by_key(|(_, fit)| *fit) else {
                continue;
            };
            let known = |chosen: &&mut Chosen| chosen.function.code == function.code;
            let name = Arc::from(function.naming.display());
            let alike = process.chosen.iter().filter(|one| one.name == name).count();
            match process.chosen.iter_mut().find(known) {
                Some(chosen) if function.naming.says_less_than(&chosen.function.naming) => {}
                None if alike >= MOST_MATCHES => {}
                // Its name is known better now.
                Some(chosen) => {
                    (chosen.fit, chosen.function) = (fit, function);
                    let before = std::mem::replace(&mut chosen.name, name);
                    self.says.renamed(&before, chosen);
                    self.corrections.push(Correction {
                        pid,
                        name: before,
                        instead: Some(Arc::clone(&chosen.name)),
                    });
                }
                None => {
                    changed = true;
                    process.chosen.push(Chosen {
                        function,
                        name,
                        pattern,
                        fit,
                        armed_ns: None,
                    });
                }
            }
        }
        if !changed {
            return Ok(());
        }
        for worse in take_worse(&mut process.chosen) {
            self.says.outdone(&worse);
            self.corrections.push(Correction {
                pid,
                name: Arc::clone(&worse.name),
                instead: None,
            });
            if worse.armed_ns.is_some() {
                self.release_of_family(tables, pid, &worse);
            }
        }
        let Some(process) = self.processes.get_mut(&pid) else {
            return Ok(());
        };
        for (index, pattern) in self.patterns.iter().enumerate() {
            let is_of_it = |chosen: &Chosen| chosen.pattern == index;
            let meant = process.chosen.iter().filter(|chosen| is_of_it(chosen));
            // One name may be of many: they are made anew again and again.
            let mut names: Vec<&str> = meant.map(|chosen| &*chosen.name).collect();
            names.sort_unstable();
            names.dedup();
            if names.len() > MOST_MATCHES {
                let refusal = says::too_many(pattern, pid, &names);
                process.refused.push(index);
                let refused = process.chosen.extract_if(.., |chosen| is_of_it(chosen));
                for chosen in refused.collect::<Vec<Chosen>>() {
                    if chosen.armed_ns.is_some() {
                        self.release_of_family(tables, pid, &chosen);
                    }
                }
                return Err(refusal);
            }
        }
        in_order(&mut process.chosen);
        self.check_family(tables, pid);
        self.arm(tables, pid);
        Ok(())
    }
}

/// Takes out what a name does not mean since it fits others better: the whole of a name goes before
/// its end, and the program's own functions before those of installed packages.
fn take_worse(chosen: &mut Vec<Chosen>) -> Vec<Chosen> {
    let mut best = HashMap::<usize, Fit>::new();
    for one in &*chosen {
        let best = best.entry(one.pattern).or_insert(one.fit);
        *best = one.fit.max(*best);
    }
    let is_worse = |one: &mut Chosen| best.get(&one.pattern).is_some_and(|best| one.fit < *best);
    chosen.extract_if(.., is_worse).collect()
}

/// Those that are watched come first, then the first function of each name, then the second of
/// each, and so on.
fn in_order(chosen: &mut [Chosen]) {
    chosen.sort_by(|a, b| (a.pattern, &a.name).cmp(&(b.pattern, &b.name)));
    let mut ranks = HashMap::new();
    let mut counts = HashMap::<usize, usize>::new();
    for one in &*chosen {
        let count = counts.entry(one.pattern).or_default();
        ranks.insert(one.function.code, *count);
        *count += 1;
    }
    let rank = |one: &Chosen| ranks.get(&one.function.code).copied();
    chosen.sort_by_key(|one| (one.armed_ns.is_none(), rank(one), one.pattern));
}
