//! Tables as upstream's library draws them (olekukonko/tablewriter): borders of `+-|`, titles centred in capitals, cells to the right, long words wrapped.

/// Wider texts are wrapped at their spaces.
const WRAP: usize = 30;

pub struct Table {
    pub titles: &'static [&'static str],
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The rows of the `simple` format.
    pub fn lines(&self) -> String {
        self.rows.iter().map(|row| row.join(", ") + "\n").collect()
    }

    pub fn draw(&self) -> String {
        let rows: Vec<Vec<Vec<String>>> = self.rows.iter().map(|row| row.iter().map(|cell| wrap(cell)).collect()).collect();
        let widths: Vec<usize> = (0..self.titles.len())
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column)).flatten().map(|line| width(line));
                cells.max().unwrap_or(0).max(width(self.titles[column]))
            })
            .collect();
        let border: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect::<String>() + "+\n";
        let mut out = border.clone();
        for (title, width) in self.titles.iter().zip(&widths) {
            out.push_str(&format!("| {} ", centred(&title.to_uppercase(), *width)));
        }
        out.push_str("|\n");
        out.push_str(&border);
        for row in &rows {
            let height = row.iter().map(Vec::len).max().unwrap_or(1);
            for line in 0..height {
                for (cell, wanted) in row.iter().zip(&widths) {
                    let text = cell.get(line).map_or("", String::as_str);
                    out.push_str(&format!("| {}{text} ", " ".repeat(wanted - width(text))));
                }
                out.push_str("|\n");
            }
        }
        if !rows.is_empty() {
            out.push_str(&border);
        }
        out
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn centred(text: &str, wanted: usize) -> String {
    let gap = wanted - width(text);
    let left = gap / 2;
    format!("{}{text}{}", " ".repeat(left), " ".repeat(gap - left))
}

/// Lines of at most `WRAP` characters, or of one word.
fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let longest = text.split_whitespace().map(width).max().unwrap_or(0).max(WRAP);
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= longest => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    if lines.is_empty() { vec![String::new()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_etcdctl() {
        let table = Table {
            titles: &["ID", "Status", "Name", "Is Learner"],
            rows: vec![vec!["2e1259d415f2a040".into(), "started".into(), "m1".into(), "false".into()]],
        };
        let expected = "\
            +------------------+---------+------+------------+\n\
            |        ID        | STATUS  | NAME | IS LEARNER |\n\
            +------------------+---------+------+------------+\n\
            | 2e1259d415f2a040 | started |   m1 |      false |\n\
            +------------------+---------+------+------------+\n";
        assert_eq!(table.draw(), expected);
        assert_eq!(table.lines(), "2e1259d415f2a040, started, m1, false\n");
    }

    #[test]
    fn long_texts_are_wrapped() {
        let table = Table { titles: &["a", "b"], rows: vec![vec!["x".into(), "some words that are longer than thirty".into()]] };
        let expected = "\
            +---+----------------------------+\n\
            | A |             B              |\n\
            +---+----------------------------+\n\
            | x | some words that are longer |\n\
            |   |                than thirty |\n\
            +---+----------------------------+\n";
        assert_eq!(table.draw(), expected);
    }
}
