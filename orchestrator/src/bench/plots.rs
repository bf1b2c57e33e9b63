//! Series as SVG, on logarithmic axes.

use super::report::Series;
use plotters::prelude::*;
use std::path::{Path, PathBuf};

/// Colours that people who see few tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// Writes NAME.svg for each series into a folder, which is made. Returns what
/// was written.
///
/// # Errors
/// What the system says, with the file's name.
pub fn write(folder: &Path, all: &[Series]) -> Result<Vec<PathBuf>, String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    all.iter()
        .map(|series| {
            let path = folder.join(format!("{}.svg", series.name));
            let svg = draw(series).map_err(|e| format!("{}: {e}", path.display()))?;
            std::fs::write(&path, svg).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(path)
        })
        .collect()
}

/// Zero has no place on a logarithmic axis: it stands at the left edge.
fn at(x: f64) -> f64 {
    x.max(1.0)
}

/// The powers of ten around all values, so that every axis has labels.
fn span(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values
        .filter(|v| *v > 0.0)
        .fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return 1.0..10.0;
    }
    let low = 10f64.powf(low.log10().floor());
    let high = 10f64.powf((high * 1.05).log10().ceil());
    low..high.max(low * 10.0)
}

fn draw(series: &Series) -> Result<String, String> {
    let mut svg = String::new();
    let text = |e: DrawingAreaErrorKind<_>| e.to_string();
    {
        let root = SVGBackend::with_string(&mut svg, (860, 480)).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        let points = || series.lines.iter().flat_map(|l| &l.points);
        let xs = span(points().map(|p| at(p.0)));
        let ys = span(points().map(|p| p.1));
        let mut chart = ChartBuilder::on(&root)
            .caption(&series.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(xs.log_scale(), ys.log_scale())
            .map_err(text)?;
        chart
            .configure_mesh()
            .x_desc(&series.x)
            .y_desc(&series.y)
            .x_label_formatter(&label)
            .y_label_formatter(&label)
            .light_line_style(WHITE.mix(0.0))
            .draw()
            .map_err(text)?;
        for (line, colour) in series.lines.iter().zip(COLOURS.iter().cycle()) {
            let points: Vec<(f64, f64)> = line
                .points
                .iter()
                .filter(|p| p.1 > 0.0)
                .map(|p| (at(p.0), p.1))
                .collect();
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
                .map_err(text)?
                .label(&line.name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            chart
                .draw_series(points.iter().map(|&p| Circle::new(p, 3, colour.filled())))
                .map_err(text)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(text)?;
        root.present().map_err(text)?;
    }
    Ok(svg)
}

fn label(value: &f64) -> String {
    if *value >= 1.0 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Line;

    #[test]
    fn a_plot_shows_every_line_and_point() {
        let line = |name: &str| Line {
            name: name.into(),
            points: vec![(0.0, 0.0), (1.0, 5.0), (1_000.0, 0.02)],
        };
        let series = Series {
            name: "s".into(),
            title: "A title".into(),
            x: "things".into(),
            y: "µs".into(),
            lines: vec![line("first"), line("second")],
        };
        let svg = draw(&series).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in ["A title", "things", "µs", "first", "second"] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("<circle").count(), 4);
    }

    #[test]
    fn a_series_without_points_is_no_crash() {
        let series = Series {
            name: "s".into(),
            title: String::new(),
            x: String::new(),
            y: String::new(),
            lines: Vec::new(),
        };
        assert!(draw(&series).unwrap().contains("<svg"));
    }
}
