//! What a plot shows, read back from its files: texts and lines of an SVG, pixels of a PNG.

use std::path::Path;

/// The pixels of a PNG.
pub struct Pixels {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    bytes: Vec<u8>,
    channels: usize,
}

impl Pixels {
    /// Reads a file of eight bits a channel.
    #[track_caller]
    pub fn read(path: &Path) -> Pixels {
        let failed = |e: &dyn std::fmt::Display| -> ! { panic!("{}: {e}", path.display()) };
        let file = std::fs::File::open(path).unwrap_or_else(|e| failed(&e));
        let decoder = png::Decoder::new(std::io::BufReader::new(file));
        let mut reader = decoder.read_info().unwrap_or_else(|e| failed(&e));
        let size = reader
            .output_buffer_size()
            .unwrap_or_else(|| failed(&"too large"));
        let mut bytes = vec![0; size];
        let info = reader.next_frame(&mut bytes).unwrap_or_else(|e| failed(&e));
        assert_eq!(info.bit_depth, png::BitDepth::Eight, "{}", path.display());
        Pixels {
            width: info.width,
            height: info.height,
            bytes,
            channels: info.color_type.samples(),
        }
    }

    /// Red, green and blue of a pixel.
    #[track_caller]
    pub fn at(&self, x: u32, y: u32) -> [u8; 3] {
        assert!(x < self.width && y < self.height, "({x}, {y}) is outside");
        let from = (y as usize * self.width as usize + x as usize) * self.channels;
        [self.bytes[from], self.bytes[from + 1], self.bytes[from + 2]]
    }
}

/// The texts of all elements of one kind (`text`, `title`), unescaped, in their order.
pub fn texts(document: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let parts = document.split(&open).skip(1);
    parts
        .filter_map(|part| part.split_once('>')?.1.split(&close).next())
        .map(|text| {
            text.replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&#39;", "'")
                .replace("&amp;", "&")
        })
        .collect()
}

/// The points of every line of a class (`s-total`), in pixels of the SVG.
#[track_caller]
pub fn lines(svg: &str, class: &str) -> Vec<Vec<(f64, f64)>> {
    let begin = format!("<polyline class=\"{class}\"");
    let number = |text: &str| -> f64 { text.parse().unwrap_or_else(|e| panic!("{text}: {e}")) };
    let point = |pair: &str| {
        let (x, y) = pair
            .split_once(',')
            .unwrap_or_else(|| panic!("no point: {pair}"));
        (number(x), number(y))
    };
    let parts = svg.split(&begin).skip(1);
    parts
        .filter_map(|part| part.split_once("points=\"")?.1.split('"').next())
        .map(|points| points.split(' ').map(point).collect())
        .collect()
}
