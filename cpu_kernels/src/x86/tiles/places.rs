//! Where the rows of a product go.

/// Rows of results begin `step` values apart.
#[derive(Clone, Copy)]
pub struct Places {
    pub step: usize,
    pub lines: Option<Lines>,
}

/// Rows make lines of `rows` each, of which the first `width` are results: the others are left out. Lines begin `step` values
/// apart.
#[derive(Clone, Copy)]
pub struct Lines {
    pub rows: usize,
    pub width: usize,
    pub step: usize,
}

impl Places {
    /// All rows are results, `step` values apart.
    pub fn rows(step: usize) -> Self {
        Self { step, lines: None }
    }

    /// Where a row begins, if it is a result.
    #[inline(always)]
    pub fn of(&self, row: usize) -> Option<usize> {
        self.of_rows(row).next().flatten()
    }

    /// The same of each row from `first` on.
    #[inline(always)]
    pub fn of_rows(&self, first: usize) -> impl Iterator<Item = Option<usize>> + use<> {
        let Self { step, lines } = *self;
        let lines = lines.unwrap_or(Lines {
            rows: usize::MAX,
            width: usize::MAX,
            step: 0,
        });
        let (mut line, mut row) = (first / lines.rows, first % lines.rows);
        std::iter::from_fn(move || {
            let place = (row < lines.width).then_some(line * lines.step + row * step);
            row += 1;
            if row == lines.rows {
                (line, row) = (line + 1, 0);
            }
            Some(place)
        })
    }

    /// Where `count` rows from `first` on begin, if they are results that lie evenly.
    #[inline(always)]
    pub fn of_run(&self, first: usize, count: usize) -> Option<usize> {
        match self.lines {
            None => Some(first * self.step),
            Some(lines) if first % lines.rows + count > lines.width => None,
            Some(_) => self.of(first),
        }
    }
}
