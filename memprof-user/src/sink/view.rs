//! Which of an owner's bytes a picture or a table shows.

use crate::model::Owner;

/// One reading of the result. The words are those of the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum View {
    /// Still resident at the end.
    #[default]
    Net,
    /// All that became resident.
    Gross,
    /// Resident when the process's RSS was highest.
    Peak,
    /// Given back.
    Freed,
    /// Stopped being shared after fork.
    Cow,
}

impl View {
    /// Every view, in the order of the command line's help.
    pub const ALL: [View; 5] = [View::Net, View::Gross, View::Peak, View::Freed, View::Cow];

    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            View::Net => "net",
            View::Gross => "gross",
            View::Peak => "peak",
            View::Freed => "freed",
            View::Cow => "cow",
        }
    }

    /// What the bytes are, for a title.
    pub const fn title(self) -> &'static str {
        match self {
            View::Net => "net resident bytes",
            View::Gross => "gross resident bytes",
            View::Peak => "bytes resident at the peak",
            View::Freed => "bytes given back",
            View::Cow => "bytes copied on write",
        }
    }

    /// The bytes of one owner under this view.
    pub fn weight(self, owner: &Owner) -> u64 {
        match self {
            View::Net => owner.net(),
            View::Gross => owner.gross,
            View::Peak => owner.peak,
            // Never more than became resident: net + freed = gross has to hold in every table.
            View::Freed => owner.freed.min(owner.gross),
            View::Cow => owner.cow,
        }
    }
}

impl std::str::FromStr for View {
    type Err = String;

    fn from_str(word: &str) -> Result<View, String> {
        View::ALL
            .into_iter()
            .find(|view| view.name() == word)
            .ok_or_else(|| format!("no such view: {word}"))
    }
}

impl std::fmt::Display for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
