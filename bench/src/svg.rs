//! Bar charts as SVG: horizontal bars, each with its value in words.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const LABELS: f64 = 240.0;
const VALUES: f64 = 90.0;
const ROW: f64 = 28.0;
const HEAD: f64 = 44.0;

/// A bar chart of `bars`; the first is ours and stands out.
pub(crate) fn bars(title: &str, unit: &str, bars: &[(String, f64)]) -> String {
    let most = bars
        .iter()
        .map(|(_, value)| *value)
        .fold(f64::MIN_POSITIVE, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
    let height = HEAD + ROW * bars.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"15\" font-weight=\"600\" fill=\"#1f2933\">{}</text>\n",
        escaped(&format!("{title} ({unit})")),
    );
    for (row, (label, value)) in bars.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
        let y = HEAD + ROW * row as f64;
        let length = (WIDTH - LABELS - VALUES) * value / most;
        let fill = if row == 0 { "#0b7285" } else { "#adb5bd" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#1f2933\">{}</text>\
             <rect x=\"{LABELS:.0}\" y=\"{:.0}\" width=\"{length:.1}\" height=\"18\" fill=\"{fill}\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\" fill=\"#1f2933\">{}</text>",
            LABELS - 8.0,
            y + 14.0,
            escaped(label),
            y,
            LABELS + length + 6.0,
            y + 14.0,
            short(*value),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn short(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_takes_the_whole_width_and_the_others_their_share() {
        let chart = bars(
            "speed",
            "seg/s",
            &[("a & b".into(), 10.0), ("c".into(), 5.0)],
        );
        assert!(
            chart.contains("width=\"390.0\"") && chart.contains("width=\"195.0\""),
            "{chart}"
        );
        assert!(chart.contains("a &amp; b"), "{chart}");
    }
}
