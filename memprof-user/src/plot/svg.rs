//! A scene as SVG: no script, no network, and the reader's own choice of light or dark.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::font;
use super::scene::{Anchor, Frame, Item, Scene, Text};
use super::theme::{Ink, Rgb, Theme};
use crate::sink::escape;
use crate::sink::flamegraph::MADE_BY;

/// How a picture chooses its colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colours {
    /// Light, and dark where the viewer prefers that (CSS `prefers-color-scheme`).
    #[default]
    Auto,
    /// Always these.
    Fixed(Theme),
}

/// The whole file.
pub fn svg(scene: &Scene, colours: Colours) -> String {
    let mut out = String::new();
    let (width, height) = (number(scene.width), number(scene.height));
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"{}\">",
        font::FAMILY
    );
    let _ = writeln!(out, "<!--{MADE_BY}.-->");
    style(scene, colours, &mut out);
    let whole = Frame {
        width: scene.width,
        height: scene.height,
        ..Frame::default()
    };
    rect(&whole, Ink::Background, 0.0, None, &mut out);
    for item in &scene.items {
        match item {
            Item::Rect {
                frame,
                ink,
                radius,
                hover,
            } => rect(frame, *ink, *radius, hover.as_deref(), &mut out),
            Item::Line { .. } => line(item, &mut out),
            Item::Text(item) => text(item, &mut out),
        }
    }
    out.push_str("</svg>\n");
    out
}

/// A class a colour for fills (`f-`) and one for strokes (`s-`): viewers that know no media
/// queries keep the first ones.
fn style(scene: &Scene, colours: Colours, out: &mut String) {
    let mut inks = BTreeSet::from([Ink::Background]);
    inks.extend(scene.items.iter().map(|item| match item {
        Item::Rect { ink, .. } | Item::Line { ink, .. } => *ink,
        Item::Text(text) => text.ink,
    }));
    let rules = |theme: Theme| {
        let mut rules = String::new();
        for ink in &inks {
            let (class, colour) = (ink.class(), hex(ink.colour(theme)));
            let _ = write!(
                rules,
                ".f-{class}{{fill:{colour}}}.s-{class}{{stroke:{colour}}}"
            );
        }
        let halo = hex(Ink::Background.colour(theme));
        let _ = write!(rules, ".halo{{stroke:{halo}}}");
        rules
    };
    let (first, dark) = match colours {
        Colours::Auto => (Theme::Light, true),
        Colours::Fixed(theme) => (theme, false),
    };
    let _ = writeln!(
        out,
        "<style>\ntext{{white-space:pre;pointer-events:none}}\npolyline{{fill:none;stroke-linejoin:round}}\n\
         .halo{{paint-order:stroke;stroke-width:3px;stroke-linejoin:round}}\n{}",
        rules(first)
    );
    if dark {
        let rules = rules(Theme::Dark);
        let _ = writeln!(out, "@media (prefers-color-scheme:dark){{{rules}}}");
    }
    out.push_str("</style>\n");
}

fn rect(frame: &Frame, ink: Ink, radius: f64, hover: Option<&str>, out: &mut String) {
    let _ = write!(
        out,
        "<rect class=\"f-{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
        ink.class(),
        number(frame.x),
        number(frame.y),
        number(frame.width),
        number(frame.height),
    );
    if radius > 0.0 {
        let _ = write!(out, " rx=\"{}\"", number(radius));
    }
    close("rect", hover, out);
}

fn line(item: &Item, out: &mut String) {
    let Item::Line {
        points,
        ink,
        width,
        dash,
        hover,
    } = item
    else {
        return;
    };
    let _ = write!(
        out,
        "<polyline class=\"s-{}\" stroke-width=\"{}\"",
        ink.class(),
        number(*width)
    );
    if *dash > 0.0 {
        let _ = write!(out, " stroke-dasharray=\"{}\"", number(*dash));
    }
    out.push_str(" points=\"");
    for (index, (x, y)) in points.iter().enumerate() {
        let blank = if index == 0 { "" } else { " " };
        let _ = write!(out, "{blank}{},{}", number(*x), number(*y));
    }
    out.push('"');
    close("polyline", hover.as_deref(), out);
}

fn text(text: &Text, out: &mut String) {
    let halo = if text.halo { " halo" } else { "" };
    let anchor = match text.anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let _ = writeln!(
        out,
        "<text class=\"f-{}{halo}\" x=\"{}\" y=\"{}\" font-size=\"{}\"{anchor}>{}</text>",
        text.ink.class(),
        number(text.x),
        number(text.y),
        number(text.size),
        escape::xml(&text.text),
    );
}

fn close(element: &str, hover: Option<&str>, out: &mut String) {
    let _ = match hover {
        Some(hover) => writeln!(out, "><title>{}</title></{element}>", escape::xml(hover)),
        None => writeln!(out, "/>"),
    };
}

fn hex(colour: Rgb) -> String {
    format!("#{colour:06x}")
}

/// Two decimals at most: a hundredth of a pixel is not seen, and files stay small.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(3.0), "3");
        assert_eq!(number(0.126), "0.13");
        assert_eq!(number(-0.001), "0");
        assert_eq!(number(120.0), "120");
    }

    #[test]
    fn names_cannot_become_elements() {
        let mut scene = Scene {
            width: 10.0,
            height: 10.0,
            items: Vec::new(),
        };
        scene.text((1.0, 2.0), 10.0, Ink::Text, "<script>\u{1b}\u{202e}&");
        scene.items.push(Item::Rect {
            frame: Frame::default(),
            ink: Ink::Heat(-2),
            radius: 0.0,
            hover: Some("</title><script>".to_owned()),
        });
        let svg = svg(&scene, Colours::Auto);
        assert!(svg.contains(">&lt;script&gt;??&amp;</text>"), "{svg}");
        assert!(svg.contains("<title>&lt;/title&gt;&lt;script&gt;</title>"));
        assert!(!svg.contains("<script"));
        assert!(svg.contains(".f-freed2{fill:#bfd8f0}") && svg.contains("prefers-color-scheme"));
    }
}
