//! What 32-bit programs may do: the filter of their architecture, asked by programs that are written here byte by byte.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use runtime::{Confinement, ExitStatus, Runtime, SystemCalls};

use crate::image::{Image, output, run};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_32_bit_program_runs,
    calls_of_32_bit_programs_get_the_verdicts_of_their_names,
    an_unfiltered_32_bit_program_makes_sockets_by_socketcall,
];

const EPERM: i32 = 1;
const EBADF: i32 = 9;
const EFAULT: i32 = 14;
const ENOSYS: i32 = 38;

/// Where the kernel puts the file.
const BASE: u32 = 0x0804_8000;
/// Where the words that a call may point to are: behind the ELF header and the one program header.
const WORDS: u32 = BASE + 84;

/// `exit(-call(first, second, third))`: what it exits with is an error, or 256 less a small result.
struct Call {
    number: u32,
    arguments: [u32; 3],
    words: [u32; 3],
}

impl Call {
    fn code(&self) -> Vec<u8> {
        let mut code = Vec::new();
        // mov eax, ebx, ecx, edx
        let [first, second, third] = self.arguments;
        for (register, value) in [(0xb8, self.number), (0xbb, first), (0xb9, second), (0xba, third)] {
            code.push(register);
            code.extend(value.to_le_bytes());
        }
        // int 0x80; neg eax; mov ebx, eax; mov eax, 1; int 0x80
        code.extend([0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80]);
        code
    }

    /// A static program of i386.
    fn program(&self) -> Vec<u8> {
        let code = self.code();
        let size = 96 + u32::try_from(code.len()).unwrap();
        let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let mut half = |value: u16| file.extend(value.to_le_bytes());
        // an executable, for the 80386
        half(2);
        half(3);
        let mut words = |values: &[u32]| values.iter().for_each(|value| file.extend(value.to_le_bytes()));
        // version, entry, program headers, no section headers, no flags
        words(&[1, WORDS + 12, 52, 0, 0]);
        // sizes and numbers of headers: 52, 32 and 1, then none, two halves in each word
        words(&[0x0020_0034, 0x0001, 0]);
        // PT_LOAD: all of the file, readable, writable and executable
        words(&[1, 0, BASE, BASE, size, size, 7, 0x1000]);
        words(&self.words);
        file.extend(code);
        file
    }
}

fn install(image: &Image, name: &str, call: &Call) {
    fs::write(image.path(name), call.program()).unwrap();
    fs::set_permissions(image.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs each call in a program of its own and compares what they exit with; results are negative.
#[track_caller]
fn check(runtime: &Runtime, system_calls: SystemCalls, cases: &[(&str, Call, i32)]) {
    let image = Image::new();
    for (number, (_, call, _)) in cases.iter().enumerate() {
        install(&image, &format!("bin/call{number}"), call);
    }
    let script = format!("n=0; while test $n -lt {}; do call$n; echo $?; n=$((n + 1)); done", cases.len());
    let mut container = image.shell(&script);
    container.confinement = Confinement { system_calls, ..Confinement::default() };
    let shown = output(runtime, &container);
    let expected: Vec<_> =
        cases.iter().map(|(name, _, expected)| format!("{name} {}", expected.rem_euclid(256))).collect();
    let actual: Vec<_> = cases.iter().zip(shown.lines()).map(|((name, ..), code)| format!("{name} {code}")).collect();
    assert_eq!(actual, expected);
}

fn call(number: u32, arguments: [u32; 3]) -> Call {
    Call { number, arguments, words: [0; 3] }
}

/// `socketcall` with arguments in memory.
fn socketcall(number: u32, words: [u32; 3]) -> Call {
    Call { number: 102, arguments: [number, WORDS, 0], words }
}

fn a_32_bit_program_runs(runtime: &Runtime) {
    let image = Image::new();
    let text = [u32::from_le_bytes(*b"narr"), u32::from_le_bytes(*b"ow\n\0"), 0];
    install(&image, "bin/narrow", &Call { number: 4, arguments: [1, WORDS, 7], words: text });
    let outcome = run(runtime, &image.container(&["narrow"])).unwrap();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (ExitStatus::Code(256 - 7), "narrow\n"), "{outcome:?}");
}

fn calls_of_32_bit_programs_get_the_verdicts_of_their_names(runtime: &Runtime) {
    check(
        runtime,
        SystemCalls::Filtered,
        &[
            ("getuid32", call(199, [0, 0, 0]), 0),
            ("clock_gettime64 to nowhere", call(403, [0, 0, 0]), EFAULT),
            ("socket(AF_UNIX)", call(359, [1, 1, 0]), -3),
            ("socket(AF_ALG)", call(359, [38, 5, 0]), EPERM),
            ("socketcall(socket, AF_UNIX)", socketcall(1, [1, 1, 0]), ENOSYS),
            ("socketcall(socket, AF_ALG)", socketcall(1, [38, 5, 0]), ENOSYS),
            ("socketcall(accept)", socketcall(5, [99, 0, 0]), EBADF),
            ("mount", call(21, [0, 0, 0]), EPERM),
            ("umount", call(22, [0, 0, 0]), EPERM),
            ("unshare(CLONE_NEWUSER)", call(310, [0x1000_0000, 0, 0]), EPERM),
            ("clone(CLONE_NEWUSER)", call(120, [0x1000_0011, 0, 0]), EPERM),
            ("clone3", call(435, [0, 0, 0]), ENOSYS),
            ("ioctl(TIOCSTI)", call(54, [0, 0x5412, 0]), EPERM),
            ("personality(ADDR_NO_RANDOMIZE)", call(136, [0x4_0000, 0, 0]), EPERM),
            ("io_uring_setup", call(425, [1, 0, 0]), EPERM),
        ],
    );
}

fn an_unfiltered_32_bit_program_makes_sockets_by_socketcall(runtime: &Runtime) {
    check(runtime, SystemCalls::Unfiltered, &[("socketcall(socket, AF_UNIX)", socketcall(1, [1, 1, 0]), -3)]);
}
