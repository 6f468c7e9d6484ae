//! Line plots as SVG.

use std::ops::Range;

use plotters::prelude::*;

/// Colours that can be told apart with any kind of colour vision (Okabe and Ito 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    /// What the legend says; nothing for a line that needs no name.
    pub name: String,
    /// Its points, in order.
    pub points: Vec<(f64, f64)>,
    /// Whether it is a thin grey line to compare with.
    pub is_guide: bool,
}

impl Line {
    /// A coloured line.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, is_guide: false }
    }

    /// The diagonal from (0, 0) to (1, 1).
    pub fn diagonal() -> Self {
        Self { name: String::new(), points: vec![(0.0, 0.0), (1.0, 1.0)], is_guide: true }
    }
}

/// An SVG picture of `lines`, 480 × 360. Points outside the ranges are cut off.
pub fn plot(title: &str, axes: [&str; 2], x: Range<f64>, y: Range<f64>, lines: &[Line]) -> String {
    let mut svg = String::new();
    // Drawing into a string fails only for ranges without any width, which are widened here.
    let widen = |range: Range<f64>| if range.end > range.start { range } else { range.start..range.start + 1.0 };
    if let Err(error) = draw(&mut svg, title, axes, widen(x), widen(y), lines) {
        svg = format!("<!-- {title}: {error} -->");
    }
    svg
}

fn draw(
    svg: &mut String,
    title: &str,
    [x_label, y_label]: [&str; 2],
    x: Range<f64>,
    y: Range<f64>,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, (480, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(x, y)?;
    chart.configure_mesh().x_desc(x_label).y_desc(y_label).light_line_style(WHITE).draw()?;
    let mut named = false;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = if line.is_guide { RGBColor(160, 160, 160).stroke_width(1) } else { colour.stroke_width(2) };
        let drawn = chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
        if !line.name.is_empty() {
            named = true;
            drawn.label(&line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
    }
    if named {
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_shows_title_axes_and_names() {
        let line = Line::new("found", vec![(0.0, 0.0), (0.2, 0.7), (1.0, 1.0)]);
        let svg = plot("ROC", ["false alarms", "sensitivity"], 0.0..1.0, 0.0..1.0, &[line, Line::diagonal()]);
        for text in ["<svg", "ROC", "false alarms", "sensitivity", "found", "polyline"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(plot("empty", ["x", "y"], 1.0..1.0, 0.0..0.0, &[]).contains("empty"));
    }
}
