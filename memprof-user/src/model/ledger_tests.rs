//! The ledger's O(1) peaks against a snapshot of everything at every new highest sum.

use proptest::prelude::*;

use super::*;

fn key(process: u32, stack: u32) -> OwnerKey {
    OwnerKey {
        process,
        image: 0,
        stack: StackIndex(stack),
        cause: Cause::Python,
        kind: PageKind::Anon,
        in_kernel: false,
        file: None,
    }
}

/// Owners of two processes, recomputed naively: `owners[process][stack]`.
#[derive(Default)]
struct Naive {
    owners: [[Totals; 4]; 2],
    highest: [u64; 2],
}

impl Naive {
    fn after_change(&mut self) {
        for (owners, highest) in self.owners.iter_mut().zip(&mut self.highest) {
            let resident = owners.iter().map(|o| o.gross - o.freed).sum();
            if resident > *highest {
                *highest = resident;
                owners.iter_mut().for_each(|o| o.peak = o.gross - o.freed);
            }
        }
    }
}

proptest! {
    #[test]
    fn peaks_are_snapshots(
        changes in prop::collection::vec((0..2u32, 0..4u32, any::<bool>(), 0..9u64), 0..200)
    ) {
        let mut ledger = Ledger::default();
        ledger.open_account();
        ledger.open_account();
        let mut naive = Naive::default();
        for (process, stack, grows, bytes) in changes {
            let owner = ledger.owner(key(process, stack));
            let truth = &mut naive.owners[process as usize][stack as usize];
            if grows {
                ledger.grow(owner, bytes, 1);
                truth.gross += bytes;
                truth.events += 1;
            } else {
                // Nothing is given back that was not taken.
                let bytes = bytes.min(truth.gross - truth.freed);
                ledger.free(owner, bytes);
                truth.freed += bytes;
            }
            naive.after_change();
        }
        for (key, totals) in ledger.owners() {
            let truth = naive.owners[key.process as usize][key.stack.0 as usize];
            prop_assert_eq!(totals, truth);
        }
        for process in 0..2 {
            let owners = naive.owners[process as usize].iter();
            let net: u64 = owners.map(|o| o.gross - o.freed).sum();
            prop_assert_eq!(ledger.resident(process), net);
        }
        let all = || naive.owners.iter().flatten();
        prop_assert_eq!(ledger.gross(), all().map(|o| o.gross).sum::<u64>());
        prop_assert_eq!(ledger.net(), all().map(|o| o.gross - o.freed).sum::<u64>());
    }
}

#[test]
fn owners_are_told_apart_by_every_part_of_their_key() {
    let mut ledger = Ledger::default();
    let one = key(0, 0);
    let keys = [
        one,
        OwnerKey { process: 1, ..one },
        OwnerKey { image: 1, ..one },
        OwnerKey {
            stack: StackIndex(1),
            ..one
        },
        OwnerKey {
            cause: Cause::Unknown,
            ..one
        },
        OwnerKey {
            kind: PageKind::File,
            ..one
        },
        OwnerKey {
            in_kernel: true,
            ..one
        },
        OwnerKey {
            file: Some(FileIndex(0)),
            ..one
        },
    ];
    let ids = keys.map(|key| ledger.owner(key));
    for (number, (id, key)) in (0..).zip(ids.iter().zip(&keys)) {
        assert_eq!(*id, OwnerId::new(number, key.kind));
        assert_eq!(id.kind(), key.kind);
    }
    assert_eq!(keys.map(|key| ledger.owner(key)), ids);
}
