//! Python's `random.Random`, as far as the reference generator of the workloads draws from it.
//!
//! The same seed gives the same numbers as `CPython` 3.11: Mersenne Twister MT19937, seeded by array, and on top of it the
//! algorithms of `random.py`. So a workload made here has the bytes that the reference has.

const STATE: usize = 624;

/// A generator; equal seeds give equal sequences.
#[derive(Debug)]
pub(crate) struct PythonRandom {
    state: [u32; STATE],
    next: usize,
}

impl PythonRandom {
    /// `random.Random(seed)` for a seed below 2³².
    pub(crate) fn new(seed: u32) -> Self {
        let mut state = [0_u32; STATE];
        state[0] = 19_650_218;
        for at in 1..STATE {
            state[at] = mixed(state[at - 1]).wrapping_mul(1_812_433_253).wrapping_add(number(at));
        }
        let mut at = 1;
        for _ in 0..STATE {
            state[at] = (state[at] ^ mixed(state[at - 1]).wrapping_mul(1_664_525)).wrapping_add(seed);
            at = following(&mut state, at);
        }
        for _ in 0..STATE - 1 {
            state[at] = (state[at] ^ mixed(state[at - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(number(at));
            at = following(&mut state, at);
        }
        state[0] = 0x8000_0000;
        Self { state, next: STATE }
    }

    /// `random()`: in [0, 1), with 53 bits.
    pub(crate) fn unit(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// `randrange(bound)`: in [0, bound), for a bound from 1 to 2³².
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bits = usize::BITS - bound.leading_zeros();
        loop {
            let drawn = (self.word() >> (32 - bits)) as usize;
            if drawn < bound {
                return drawn;
            }
        }
    }

    /// `randint(low, high)`: both may be drawn.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// `choice(list)`.
    pub(crate) fn choice<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// One draw of `choices` with the cumulative weights: an index.
    pub(crate) fn weighted(&mut self, cumulative: &[f64]) -> usize {
        let last = cumulative.len() - 1;
        let drawn = self.unit() * cumulative[last];
        cumulative[..last].partition_point(|weight| *weight <= drawn)
    }

    /// `lognormvariate(mu, sigma)`, by the method of Kinderman and Monahan.
    pub(crate) fn log_normal(&mut self, mu: f64, sigma: f64) -> f64 {
        let magic = 4.0 * (-0.5_f64).exp() / 2.0_f64.sqrt();
        loop {
            let (first, second) = (self.unit(), 1.0 - self.unit());
            let z = magic * (first - 0.5) / second;
            if z * z / 4.0 <= -second.ln() {
                return (mu + z * sigma).exp();
            }
        }
    }

    /// `randbytes(size)`, for a multiple of four.
    pub(crate) fn bytes(&mut self, size: usize) -> Vec<u8> {
        (0..size / 4).flat_map(|_| self.word().to_le_bytes()).collect()
    }

    fn word(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for at in 0..STATE {
            let joined = (self.state[at] & 0x8000_0000) | (self.state[(at + 1) % STATE] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[at] = self.state[(at + 397) % STATE] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }
}

fn mixed(word: u32) -> u32 {
    word ^ (word >> 30)
}

fn number(at: usize) -> u32 {
    u32::try_from(at).expect("the state has 624 words")
}

/// The place after `at` while the state is seeded; at the end, the last word becomes the first.
fn following(state: &mut [u32; STATE], at: usize) -> usize {
    if at + 1 < STATE {
        return at + 1;
    }
    state[0] = state[STATE - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::PythonRandom;

    #[test]
    fn a_seed_gives_the_numbers_that_python_draws() {
        let mut random = PythonRandom::new(3);
        assert_eq!([random.unit(), random.unit()], [0.237_964_627_091_891_37, 0.544_229_225_295_951_9]);
        assert_eq!((random.below(17), random.between(0, 4), *random.choice(b"abcdefg")), (11, 4, b'd'));
        assert_eq!([1, 2, 3].map(|_| random.weighted(&[1.0, 3.0, 6.0])), [2, 0, 0]);
        assert_eq!(random.log_normal(8.2, 1.25), 9_672.887_589_335_447);
        assert_eq!(random.bytes(4), [0x33, 0x1d, 0xfd, 0x3b]);
    }
}
