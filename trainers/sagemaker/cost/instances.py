"""What a machine that can be rented has: GPUs, their age, its own disk or a volume, and how fast it trains.

Sizes are those of the EC2 type of the same name. ``NVME`` families bring their own disk: ``VolumeSizeInGB`` does not
apply to them and a volume key is refused. Enters: an instance type's name. Leaves: facts, or None where none are known.
"""

from __future__ import annotations

from dataclasses import dataclass

SMALLEST_GPU = "ml.g4dn.xlarge"  # the cheapest hour that the built-in algorithm and MXNet for CUDA 11 both take
DEFAULT_VOLUME_GB = 30
# What the CUDA 11.7 wheel of docs/Dockerfile holds machine code for, and no PTX, so nothing is compiled on newer GPUs.
# Such code runs on GPUs of the same major number whose minor number is at least its own: 8.6 on 8.9, none on 9.0.
CODE_FOR = ((5, 0), (6, 0), (7, 0), (8, 0), (8, 6))
_TRIED = ((7, 0), (7, 5), (8, 0), (8, 6))  # GPUs that MXNet for CUDA 11 is known to train on
BUILTIN_FAMILIES = ("p2", "p3", "p3dn", "g4dn", "g5")  # the ones AWS's page lists: P2, P3, G4dn, G5


@dataclass(frozen=True)
class Gpu:
    """One GPU. ``tflops`` is what float32 training of a ResNet gets out of it, roughly: for estimates alone."""

    name: str
    capability: tuple[int, int]
    tflops: float

    @property
    def runs_our_code(self) -> bool:
        """Whether the wheel's machine code runs on it, by NVIDIA's rule."""
        major, minor = self.capability
        return any(have == major and least <= minor for have, least in CODE_FOR)

    @property
    def is_tried(self) -> bool:
        """Whether MXNet for CUDA 11 is known to train on it."""
        return self.capability in _TRIED


_GPUS = {
    "p2": Gpu("K80", (3, 7), 1.5),
    "p3": Gpu("V100", (7, 0), 9.0),
    "p3dn": Gpu("V100", (7, 0), 9.0),
    "p4d": Gpu("A100", (8, 0), 17.0),
    "p4de": Gpu("A100", (8, 0), 17.0),
    "p5": Gpu("H100", (9, 0), 30.0),
    "p5e": Gpu("H200", (9, 0), 30.0),
    "p5en": Gpu("H200", (9, 0), 30.0),
    "p6-b200": Gpu("B200", (10, 0), 30.0),
    "p6-b300": Gpu("B300", (10, 3), 30.0),
    "p6e-gb200": Gpu("GB200", (10, 0), 30.0),
    "g4dn": Gpu("T4", (7, 5), 3.0),
    "g5": Gpu("A10G", (8, 6), 7.0),
    "g6": Gpu("L4", (8, 9), 6.0),
    "g6e": Gpu("L40S", (8, 9), 12.0),
    "g6f": Gpu("L4", (8, 9), 6.0),  # a share of one
    "gr6": Gpu("L4", (8, 9), 6.0),
    "g7": Gpu("RTX PRO 4500", (12, 0), 12.0),
    "g7e": Gpu("RTX PRO 6000", (12, 0), 20.0),
}
# Accelerators that no build of MXNet drives.
_NOT_CUDA = {
    "trn1": "Trainium",
    "trn1n": "Trainium",
    "trn2": "Trainium2",
    "inf1": "Inferentia",
    "inf2": "Inferentia2",
    "dl1": "Gaudi",
    "g4ad": "Radeon Pro V520",
}
# size → (GPUs, vCPUs, disk of its own in GB; None: an EBS volume is attached)
_SIZES: dict[str, dict[str, tuple[int, int, int | None]]] = {
    "p2": {"xlarge": (1, 4, None), "8xlarge": (8, 32, None), "16xlarge": (16, 64, None)},
    "p3": {"2xlarge": (1, 8, None), "8xlarge": (4, 32, None), "16xlarge": (8, 64, None)},
    "p3dn": {"24xlarge": (8, 96, 1800)},
    "p4d": {"24xlarge": (8, 96, 8000)},
    "p4de": {"24xlarge": (8, 96, 8000)},
    "p5": {"4xlarge": (1, 16, 3840), "48xlarge": (8, 192, 30720)},
    "p5e": {"48xlarge": (8, 192, 30720)},
    "p5en": {"48xlarge": (8, 192, 30720)},
    "g4dn": {
        "xlarge": (1, 4, 125),
        "2xlarge": (1, 8, 225),
        "4xlarge": (1, 16, 225),
        "8xlarge": (1, 32, 900),
        "12xlarge": (4, 48, 900),
        "16xlarge": (1, 64, 900),
    },
    "g5": {
        "xlarge": (1, 4, 250),
        "2xlarge": (1, 8, 450),
        "4xlarge": (1, 16, 600),
        "8xlarge": (1, 32, 900),
        "12xlarge": (4, 48, 3800),
        "16xlarge": (1, 64, 1900),
        "24xlarge": (4, 96, 3800),
        "48xlarge": (8, 192, 7600),
    },
    "g6": {
        "xlarge": (1, 4, 250),
        "2xlarge": (1, 8, 450),
        "4xlarge": (1, 16, 600),
        "8xlarge": (1, 32, 900),
        "12xlarge": (4, 48, 3760),
        "16xlarge": (1, 64, 1880),
        "24xlarge": (4, 96, 3760),
        "48xlarge": (8, 192, 7520),
    },
    "g6e": {
        "xlarge": (1, 4, 250),
        "2xlarge": (1, 8, 450),
        "4xlarge": (1, 16, 600),
        "8xlarge": (1, 32, 900),
        "12xlarge": (4, 48, 3800),
        "16xlarge": (1, 64, 1900),
        "24xlarge": (4, 96, 3800),
        "48xlarge": (8, 192, 7600),
    },
}
_CPU_FAMILIES = ("m", "c", "r", "t")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One instance type. ``disk_gb`` is its own disk's size; None means that an EBS volume is attached."""

    type: str
    num_gpus: int
    gpu: Gpu
    num_cpus: int
    disk_gb: int | None


def find(instance_type: str) -> Instance | None:
    """The facts of a GPU instance type, ``ml.g4dn.xlarge``; None where none are known here."""
    family, size = _parts(instance_type)
    row = _SIZES.get(family, {}).get(size)
    if row is None:
        return None
    return Instance(type=instance_type, num_gpus=row[0], gpu=_GPUS[family], num_cpus=row[1], disk_gb=row[2])


def gpu(instance_type: str) -> Gpu | None:
    """The GPU of the type's family, whatever the size; None where it has none, or none is known."""
    return _GPUS.get(family(instance_type))


def other_accelerator(instance_type: str) -> str | None:
    """The name of an accelerator that is no NVIDIA GPU, ``Trainium``; None for all other types."""
    return _NOT_CUDA.get(family(instance_type))


def cannot(instance_type: str, *, is_builtin: bool) -> str:
    """Why no job of the algorithm, or of our own image, runs on the type; empty where one does or nothing is known."""
    if is_cpu(instance_type):
        return "no GPU"
    if is_builtin:
        return "" if family(instance_type) in BUILTIN_FAMILIES else "not among the built-in's families"
    found = gpu(instance_type)
    if found is None:
        return other_accelerator(instance_type) or ""
    return "" if found.runs_our_code else f"no code for {found.name}"


def with_one_gpu(instance_type: str) -> str | None:
    """The smallest type with one GPU of the same kind; None where there is none, or nothing is known of the type."""
    kin = family(instance_type)
    alone = {size: row for size, row in _SIZES.get(kin, {}).items() if row[0] == 1}
    return f"ml.{kin}.{min(alone, key=lambda size: alone[size][1])}" if alone else None


def family(instance_type: str) -> str:
    """``g4dn`` of ``ml.g4dn.xlarge``; empty where the name has another form."""
    return _parts(instance_type)[0]


def is_cpu(instance_type: str) -> bool:
    """Whether the type surely has no GPU: general purpose, compute or memory families."""
    name = family(instance_type)
    return bool(name) and name[0] in _CPU_FAMILIES and name[1:2].isdigit()


def has_own_disk(instance_type: str) -> bool:
    """Whether the type trains on its own NVMe disk, so that no volume is attached."""
    known = find(instance_type)
    if known is not None:
        return known.disk_gb is not None
    name = family(instance_type)
    return "d" in name or name.startswith(("g5", "g6", "g7", "gr6", "p5", "p6", "trn"))


def _parts(instance_type: str) -> tuple[str, str]:
    parts = instance_type.split(".")
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == "ml" else ("", "")
