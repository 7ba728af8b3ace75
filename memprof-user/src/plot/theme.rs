//! The colours, light and dark.
//!
//! Lines keep a contrast of 3:1 at least to their background (WCAG 2.1, 1.4.11), texts 4.5:1
//! (1.4.3). The tests compute it.

/// A colour as `0xRRGGBB`.
pub type Rgb = u32;

/// Colours for curves of processes and brackets of functions, in the order in which they are
/// given away. Beyond them everything is [`Ink::Others`].
pub const SERIES: usize = SERIES_COLOURS.len();

/// Steps of growth in a flame; and of shrinking.
pub const HEAT_STEPS: i8 = 6;

/// What a thing is, which decides on its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ink {
    /// Behind everything.
    Background,
    /// Behind a lane of a flame.
    Panel,
    /// Lines of the grid.
    Grid,
    /// The frame of the plot, and marks of the peak.
    Axis,
    /// Text.
    Text,
    /// Text that explains.
    Muted,
    /// The total of all processes, or the only one.
    Total,
    /// The n-th curve or function.
    Series(u8),
    /// Curves beyond those that have a colour of their own.
    Others,
    /// Growth of memory in a call: 0 none, 1 to [`HEAT_STEPS`] more and more, negative: given back.
    Heat(i8),
    /// Text on [`Ink::Heat`].
    OnHeat(i8),
}

/// Light background or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// Dark on light.
    #[default]
    Light,
    /// Light on dark.
    Dark,
}

/// (on light, on dark)
const SERIES_COLOURS: [(Rgb, Rgb); 8] = [
    (0x2b6cd4, 0x6aa5ff),
    (0xd0620a, 0xf59a45),
    (0x1f8a5b, 0x58c994),
    (0xb83a8c, 0xee7cc0),
    (0x0d8496, 0x4fc4d6),
    (0x7650cc, 0xab8dff),
    (0x8c6030, 0xcba274),
    (0xcc3838, 0xff7d78),
];

/// From step −6 to 6: (on light, on dark).
const HEAT_COLOURS: [(Rgb, Rgb); 13] = [
    (0x1f5fa8, 0x7fbdf2),
    (0x4a88cc, 0x5a9fdc),
    (0x6ea3d8, 0x4183c0),
    (0x9bc1e6, 0x33689c),
    (0xbfd8f0, 0x2b5078),
    (0xdce9f6, 0x263d56),
    (0xe4e6e9, 0x343a42),
    (0xfdebd3, 0x4b3728),
    (0xfdd3a2, 0x6b4527),
    (0xfcb06c, 0x925526),
    (0xf5853f, 0xbc6a2a),
    (0xdd5526, 0xe8853a),
    (0xb32d1c, 0xffb066),
];

impl Ink {
    /// The colour on this background.
    pub fn colour(self, theme: Theme) -> Rgb {
        let (light, dark) = self.colours();
        match theme {
            Theme::Light => light,
            Theme::Dark => dark,
        }
    }

    /// (on light, on dark)
    pub fn colours(self) -> (Rgb, Rgb) {
        match self {
            Ink::Background => (0xffffff, 0x14171c),
            Ink::Panel => (0xf5f6f8, 0x1b1f26),
            Ink::Grid => (0xe6e8ec, 0x2a2f38),
            Ink::Axis => (0x8b929c, 0x767e8a),
            Ink::Text => (0x1c2128, 0xe8ebef),
            Ink::Muted => (0x5b636e, 0xa2aab5),
            Ink::Total => (0x1c2128, 0xe8ebef),
            Ink::Others => (0x878d96, 0x7d8590),
            Ink::Series(index) => SERIES_COLOURS[usize::from(index) % SERIES],
            Ink::Heat(step) => heat(step),
            Ink::OnHeat(step) => {
                let (light, dark) = heat(step);
                (readable_on(light), readable_on(dark))
            }
        }
    }

    /// A name for it in a style sheet.
    pub fn class(self) -> String {
        match self {
            Ink::Background => "background".to_owned(),
            Ink::Panel => "panel".to_owned(),
            Ink::Grid => "grid".to_owned(),
            Ink::Axis => "axis".to_owned(),
            Ink::Text => "text".to_owned(),
            Ink::Muted => "muted".to_owned(),
            Ink::Total => "total".to_owned(),
            Ink::Others => "others".to_owned(),
            Ink::Series(index) => format!("series{index}"),
            Ink::Heat(step) if step < 0 => format!("freed{}", step.unsigned_abs()),
            Ink::Heat(step) => format!("grown{step}"),
            Ink::OnHeat(step) if step < 0 => format!("on-freed{}", step.unsigned_abs()),
            Ink::OnHeat(step) => format!("on-grown{step}"),
        }
    }
}

fn heat(step: i8) -> (Rgb, Rgb) {
    let step = step.clamp(-HEAT_STEPS, HEAT_STEPS);
    HEAT_COLOURS[usize::from((step + HEAT_STEPS).unsigned_abs())]
}

/// Black or white, whichever is read more easily.
fn readable_on(background: Rgb) -> Rgb {
    const BLACK: Rgb = 0x101418;
    const WHITE: Rgb = 0xffffff;
    if contrast(BLACK, background) >= contrast(WHITE, background) {
        BLACK
    } else {
        WHITE
    }
}

/// WCAG 2.1's ratio of contrast, from 1 to 21.
pub fn contrast(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// WCAG 2.1's relative luminance.
fn luminance(colour: Rgb) -> f64 {
    let channel = |shift: u32| {
        let value = f64::from((colour >> shift) & 0xff) / 255.0;
        if value <= 0.040_45 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_and_texts_stand_out_from_what_is_behind_them() {
        for theme in [Theme::Light, Theme::Dark] {
            let background = Ink::Background.colour(theme);
            let ratio = |ink: Ink| contrast(ink.colour(theme), background);
            for index in 0..SERIES as u8 {
                assert!(ratio(Ink::Series(index)) >= 3.0, "{index} {theme:?}");
            }
            assert!(ratio(Ink::Total) >= 3.0 && ratio(Ink::Others) >= 3.0);
            for ink in [Ink::Text, Ink::Muted] {
                assert!(ratio(ink) >= 4.5, "{ink:?} {theme:?}");
                let panel = contrast(ink.colour(theme), Ink::Panel.colour(theme));
                assert!(panel >= 4.5, "{ink:?} {theme:?}");
            }
            for step in -HEAT_STEPS..=HEAT_STEPS {
                let on = Ink::OnHeat(step).colour(theme);
                let ratio = contrast(on, Ink::Heat(step).colour(theme));
                assert!(ratio >= 4.5, "step {step} {theme:?}: {ratio:.2}");
            }
        }
    }

    #[test]
    fn contrast_is_wcags() {
        assert!((contrast(0x000000, 0xffffff) - 21.0).abs() < 1e-9);
        assert!((contrast(0x777777, 0xffffff) - 4.48).abs() < 0.01);
    }
}
