//! Asking for memory before it is needed.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// Bytes that memory gives at a time.
const LINE: usize = 64;

/// What the next tile reads and writes, asked for piece by piece while this one is computed: the processor itself looks ahead
/// only while a tile is being read, and not beyond a page.
///
/// A core waits for a few dozen lines at a time. Asked for more at once, it stands still; so the pieces are small, and lie
/// between multiplications. They go to the second level cache: a tile's own values fill the first.
pub struct Ahead {
    /// What was not yet asked for, reads before writes.
    left: [Piece; 5],
    lines: usize,
    asked: usize,
    work: usize,
    done: usize,
}

/// A piece: lines behind one another.
#[derive(Clone, Copy)]
pub struct Piece {
    start: *const i8,
    lines: usize,
}

impl Ahead {
    /// For a tile that takes `work`, in any unit.
    pub fn new<T>(reads: [&[T]; 4], writes: &[T], work: usize) -> Self {
        let [a, b, c, d] = reads;
        let left = [a, b, c, d, writes].map(Piece::of);
        Self {
            left,
            lines: left.iter().map(|piece| piece.lines).sum(),
            asked: 0,
            work: work.max(1),
            done: 0,
        }
    }

    /// Nothing lies ahead.
    pub fn nothing() -> Self {
        Self::new::<f32>([&[]; 4], &[], 1)
    }

    /// Asks for what is due after so much more `work`.
    pub fn pass(&mut self, work: usize) {
        self.done += work;
        loop {
            let piece = self.piece();
            if piece.lines == 0 {
                return;
            }
            piece.in_shares(1).ask();
        }
    }

    /// What is due during the next `work`, or the first part of it; the rest is due with the next piece.
    #[inline(never)]
    pub fn during(&mut self, work: usize) -> Piece {
        self.done += work;
        self.piece()
    }

    fn piece(&mut self) -> Piece {
        let due = (self.lines * self.done / self.work).min(self.lines) - self.asked;
        let left = self.left.iter_mut().find(|piece| piece.lines > 0);
        let Some(left) = left else {
            return Piece::NONE;
        };
        let piece = left.first(due);
        self.asked += piece.lines;
        piece
    }
}

impl Piece {
    pub const NONE: Self = Self {
        start: std::ptr::null(),
        lines: 0,
    };

    fn of<T>(values: &[T]) -> Self {
        Self {
            start: values.as_ptr().cast(),
            lines: size_of_val(values).div_ceil(LINE),
        }
    }

    /// Takes the first `count` lines from it, as far as there are any.
    #[inline(always)]
    fn first(&mut self, count: usize) -> Self {
        let lines = count.min(self.lines);
        let first = Self { lines, ..*self };
        self.start = self.start.wrapping_add(lines * LINE);
        self.lines -= lines;
        first
    }

    /// The same, to be asked for in `count` shares.
    #[inline(always)]
    pub fn in_shares(self, count: usize) -> Shares {
        Shares {
            each: self.lines.div_ceil(count),
            left: self,
        }
    }
}

/// A piece in shares of `each` lines.
pub struct Shares {
    left: Piece,
    each: usize,
}

impl Shares {
    /// Asks for the next share.
    #[inline(always)]
    pub fn ask(&mut self) {
        let Piece { mut start, lines } = self.left.first(self.each);
        for _ in 0..lines {
            // SAFETY: nothing is read, whatever lies there.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start) };
            start = start.wrapping_add(LINE);
        }
    }
}

/// `count` values from `first` on, as far as there are any.
#[inline(always)]
pub fn some<T>(values: &[T], first: usize, count: usize) -> &[T] {
    let values = values.get(first..).unwrap_or_default();
    &values[..count.min(values.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_asked_for_once_and_not_before_its_share_of_the_work() {
        let values = vec![[0f32; 16]; 1000];
        let ranges = [
            &values[..100],
            &values[200..237],
            &[],
            &values[300..301],
            &values[400..500],
        ];
        let [a, b, c, d, writes] = ranges;
        for work in [1, 7, 60, 1000] {
            let mut ahead = Ahead::new([a, b, c, d], writes, work);
            let (mut asked, mut done) = (Vec::new(), 0);
            // The work, and a few moments more for what is due where a range ends.
            for _ in 0..work + ranges.len() {
                let more = usize::from(done < work);
                done += more;
                let piece = ahead.during(more);
                asked.extend((0..piece.lines).map(|line| piece.start.wrapping_add(line * LINE)));
                assert!(asked.len() * work <= 238 * done, "{work} {done}");
            }
            let lines = ranges.into_iter().flatten();
            let lines: Vec<_> = lines.map(|line| line.as_ptr().cast::<i8>()).collect();
            assert_eq!(asked, lines, "{work}");
        }
    }
}
