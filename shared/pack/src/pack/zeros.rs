//! A gzip member of zeros, made without looking at them.
//!
//! What PostgreSQL leaves of a segment after a switch is zeros to its end, often nearly all of
//! it. An encoder walks through them at some GB/s and spends a byte on each thousand; here each
//! 258 of them are two zero bits, so the member is a short head and a run of zero bytes.

/// Bits of a deflate stream (RFC 1951): values from the lowest bit on, codes from the highest.
struct Bits {
    out: Vec<u8>,
    /// Bits not yet in `out`, fewer than eight between two calls.
    rest: u64,
    count: u32,
}

/// Zeros that one match of the longest kind stands for (RFC 1951, 3.2.5: length code 285).
pub(super) const MATCH: u64 = 258;
/// The order in which a block tells the lengths of its code length codes (RFC 1951, 3.2.7).
const ORDER: [u8; 18] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1];

/// Appends a gzip member (RFC 1952) that unpacks to `zeros` zeros, at least one.
pub(super) fn member(zeros: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&super::HEADER);
    let mut bits = Bits {
        out: std::mem::take(out),
        rest: 0,
        count: 0,
    };
    head(&mut bits);
    // One byte for the first match to repeat, and those that fill no whole match.
    let literals = 1 + (zeros - 1) % MATCH;
    for _ in 0..literals {
        bits.value(LITERAL_ZERO, 2);
    }
    // A match is the code of 285 and that of distance 1, both the single bit 0.
    bits.zeros(2 * ((zeros - literals) / MATCH));
    bits.value(END_OF_BLOCK, 2);
    *out = bits.finish();
    out.extend_from_slice(&crc32(zeros).to_le_bytes());
    // RFC 1952: the size modulo 2^32; ours are at most 1 GiB.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "modulo 2^32, as RFC 1952 says"
    )]
    out.extend_from_slice(&(zeros as u32).to_le_bytes());
}

/// Codes as they lie in the stream, first bit lowest: `10` and `11`; 285 is `0`.
const LITERAL_ZERO: u64 = 0b01;
const END_OF_BLOCK: u64 = 0b11;

/// The head of a last block with codes of its own: literal 0 and the end in two bits each,
/// length 285 in one; distance 1 in one.
fn head(bits: &mut Bits) {
    bits.value(1, 1); // the last block
    bits.value(2, 2); // dynamic codes
    bits.value(286 - 257, 5); // literal and length codes
    bits.value(0, 5); // one distance code
    bits.value(ORDER.len() as u64 - 4, 4);
    for symbol in ORDER {
        // The code lengths that occur: 18 (a run of zeros) in one bit, 1 and 2 in two.
        bits.value(
            match symbol {
                18 => 1,
                1 | 2 => 2,
                _ => 0,
            },
            3,
        );
    }
    let (one, two) = (0b01, 0b11);
    let run = |bits: &mut Bits, length: u64| {
        bits.value(0, 1);
        bits.value(length - 11, 7);
    };
    bits.value(two, 2); // literal 0
    run(bits, 138); // 1 to 255 do not occur
    run(bits, 117);
    bits.value(two, 2); // 256, the end
    run(bits, 28); // 257 to 284 do not occur
    bits.value(one, 2); // 285
    bits.value(one, 2); // distance 1
}

impl Bits {
    fn value(&mut self, value: u64, count: u32) {
        self.rest |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push((self.rest & 0xff) as u8);
            self.rest >>= 8;
            self.count -= 8;
        }
    }

    fn zeros(&mut self, count: u64) {
        let all = u64::from(self.count) + count;
        if all < 8 {
            self.count = u32::try_from(all).unwrap_or(0);
            return;
        }
        self.out.push((self.rest & 0xff) as u8);
        let bytes = usize::try_from(all / 8 - 1).unwrap_or(0);
        self.out.resize(self.out.len() + bytes, 0);
        (self.rest, self.count) = (0, u32::try_from(all % 8).unwrap_or(0));
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.out.push((self.rest & 0xff) as u8);
        }
        self.out
    }
}

fn crc32(zeros: u64) -> u32 {
    static BLOCK: [u8; 1 << 16] = [0; 1 << 16];
    let mut crc = libdeflater::Crc::new();
    let mut left = zeros;
    while left > 0 {
        let piece = usize::try_from(left).map_or(BLOCK.len(), |left| left.min(BLOCK.len()));
        crc.update(&BLOCK[..piece]);
        left -= piece as u64;
    }
    crc.sum()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(packed)
            .read_to_end(&mut plain)
            .expect("it is gzip");
        plain
    }

    proptest! {
        #[test]
        fn it_unpacks_to_so_many_zeros_whoever_unpacks_it(zeros in 1_u64..70_000) {
            let mut packed = Vec::new();
            member(zeros, &mut packed);
            let plain = unpacked(&packed);
            prop_assert_eq!(plain.len() as u64, zeros);
            prop_assert!(plain.iter().all(|byte| *byte == 0));
            let mut again = vec![1; plain.len()];
            let size = libdeflater::Decompressor::new().gzip_decompress(&packed, &mut again);
            prop_assert_eq!(size, Ok(plain.len()));
        }
    }

    #[test]
    fn the_rest_of_a_segment_takes_less_than_zlib_needs() {
        // A whole number of matches behind the first byte, as the packer cuts it.
        let zeros = 1 + 65_000 * MATCH;
        let mut packed = Vec::new();
        member(zeros, &mut packed);
        assert_eq!(unpacked(&packed).len() as u64, zeros);
        let mut zlib = super::super::zlib(Vec::new(), 9);
        std::io::copy(&mut std::io::repeat(0).take(zeros), &mut zlib).expect("memory takes it");
        let zlib = zlib.finish().expect("memory takes it").len();
        assert!(packed.len() < zlib, "{} and {zlib}", packed.len());
    }
}
