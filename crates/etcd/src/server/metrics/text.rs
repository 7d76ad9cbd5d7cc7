//! Numbers as text, in Prometheus' format and in OpenMetrics'. Knows no metric.

use std::fmt::{Display, Write};

use store::Durations;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub struct Page {
    format: Format,
    text: String,
}

/// One metric; its samples follow.
pub struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Page {
    pub fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    pub fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    pub fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) -> Family<'_> {
        // OpenMetrics names a counter's family without the ending that its samples must have.
        let (family, sample) = match name.strip_suffix("_total") {
            Some(stem) if self.format == Format::OpenMetrics && kind == "counter" => (stem, name.to_owned()),
            None if self.format == Format::OpenMetrics && kind == "counter" => (name, format!("{name}_total")),
            _ => (name, name.to_owned()),
        };
        write(&mut self.text, format_args!("# HELP {family} {help}\n# TYPE {family} {kind}\n"));
        Family { text: &mut self.text, name: sample }
    }

    pub fn histogram(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Family<'_> {
    /// The one sample without labels.
    pub fn is(&mut self, value: impl Display) {
        self.with(&[], value);
    }

    pub fn with(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.sample("", labels, value);
    }

    pub fn durations(&mut self, labels: &[(&str, &str)], durations: &Durations) {
        let (bounds, count, sum) = durations.read();
        for (bound, below) in bounds {
            self.sample("_bucket", &[labels, &[("le", &bound.to_string())]].concat(), below);
        }
        self.sample("_bucket", &[labels, &[("le", "+Inf")]].concat(), count);
        self.sample("_sum", labels, sum);
        self.sample("_count", labels, count);
    }

    fn sample(&mut self, ending: &str, labels: &[(&str, &str)], value: impl Display) {
        write(self.text, format_args!("{}{ending}", self.name));
        for (at, (name, value)) in labels.iter().enumerate() {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write(self.text, format_args!("{}{name}=\"{escaped}\"", if at == 0 { '{' } else { ',' }));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        write(self.text, format_args!(" {value}\n"));
    }
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.counter("a_total", "A").is(1);
        page.counter("b", "B").with(&[("x", "1"), ("y", "q\"\\\n")], 2.5);
        page.gauge("c_total", "C").is(-3);
        let durations = Durations::new(1000, 2);
        durations.observe(std::time::Duration::from_millis(2));
        page.histogram("d_seconds", "D").durations(&[("To", "z")], &durations);
        page.finish()
    }

    #[test]
    fn both_formats() {
        let histogram = "# HELP d_seconds D\n# TYPE d_seconds histogram\nd_seconds_bucket{To=\"z\",le=\"0.001\"} 0\n\
             d_seconds_bucket{To=\"z\",le=\"0.002\"} 1\nd_seconds_bucket{To=\"z\",le=\"+Inf\"} 1\nd_seconds_sum{To=\"z\"} 0.002\n\
             d_seconds_count{To=\"z\"} 1\n";
        let labels = "{x=\"1\",y=\"q\\\"\\\\\\n\"}";
        let gauge = "# HELP c_total C\n# TYPE c_total gauge\nc_total -3\n";
        assert_eq!(
            page(Format::Prometheus),
            format!("# HELP a_total A\n# TYPE a_total counter\na_total 1\n# HELP b B\n# TYPE b counter\nb{labels} 2.5\n{gauge}{histogram}")
        );
        assert_eq!(
            page(Format::OpenMetrics),
            format!(
                "# HELP a A\n# TYPE a counter\na_total 1\n# HELP b B\n# TYPE b counter\nb_total{labels} 2.5\n{gauge}{histogram}# EOF\n"
            )
        );
        assert_eq!(Format::accepted("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Prometheus);
    }
}
