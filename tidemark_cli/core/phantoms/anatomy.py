"""What is drawn of a sample before it is painted: the shapes of its anatomy, and the levels of its stain.

Ranges follow what is measured on real PTA slices and published anatomy; ``wide`` goes beyond them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..settings import Kind


@dataclass(frozen=True)
class Anatomy:
    """Shapes of one sample. Lengths in µm; `tidemark_um` and `surface_um` are heights above z = 0."""

    tidemark_um: float
    surface_um: float
    bottom_um: float  # the plug's cut bone end; below the grid when the bone leaves the field of view
    cut: tuple[float, float]  # slopes of the cut along y and x
    tilt: tuple[float, float]  # slopes of the tidemark along y and x
    curvature: float  # of the tidemark, 1/µm
    roughness_um: float  # standard deviation of the tidemark's height, tilt and curvature removed
    scallops_um: float  # depth of the scallops in the tidemark; negative: bumps; 0: none
    terraces_um: float  # height of the steps in it
    cleft_um: float  # width of the gap where the cartilage is torn off along the interface; 0: none
    cleft_above_um: float  # how far above the tidemark the gap begins
    cleft_cover: float  # 1: in few places; -1: nearly everywhere
    surface_roughness_um: float
    fissures: float  # 0 (none) to 1
    fraying_um: float  # of the surface, into flaps and holes
    radius_um: float
    lean: tuple[float, float]  # slopes of the plug's axis along y and x
    taper: float
    wall_roughness_um: float
    step_um: float  # how much wider (or narrower) the cartilage is, 60 µm above the tidemark, than the bone
    plate_um: float  # thickness of calcified cartilage plus subchondral plate
    breach: float  # height of the plate's marrow threshold at the tidemark, in SD: low means no openings
    marrow: float  # threshold of the marrow space below the plate, in SD: high means little bone
    cavity_um: float  # size of the marrow cavities
    pores: float  # threshold of dark pores in hard tissue, in SD
    sides_um: tuple[float, float] | None = None  # half its widths where it is sawn; None: a drilled plug
    turn: float = 0.0  # from y and x to these two, about z, in radians
    bend_um: float = 0.0  # radius of tidemark and surface along the second, a condyle's; 0: none

    @staticmethod
    def draw(
        rng: np.random.Generator, height_um: float, width_um: float, wide: bool = False, odd: bool = False
    ) -> Anatomy:
        """Draw a plug for a field of view.

        Parameters
        ----------
        wide : exceed reality's variety, and let parts of the plug leave the field.
        odd : draw rare shapes often: clefts, scallops, terraces, thick and thin plates, bone free of marrow.
        """
        u, chance = rng.uniform, rng.random
        lean_sd, tilt_sd = (0.16, 0.16) if wide else (0.08, 0.08)
        tidemark = height_um * u(0.12, 0.8) if wide else min(height_um * u(0.3, 0.45), u(900, 1500))
        if wide and chance() < 0.12:  # one of the two tissues may be out of view
            tidemark = height_um * u(-0.2, 1.15)
        thickness = u(500, 2800) if wide else min(height_um * u(0.4, 0.52), u(1000, 2800))
        solid = odd and chance() < 0.2  # no marrow within reach
        return Anatomy(
            tidemark_um=tidemark,
            surface_um=tidemark + thickness,
            bottom_um=u(-0.2, 0.5) * tidemark if wide and chance() < 0.4 else -1e4,
            cut=tuple(rng.normal(0, 0.2, 2)),
            tilt=tuple(np.clip(rng.normal(0, tilt_sd, 2), -0.55, 0.55)),
            curvature=rng.normal(0, 1) * (1.2e-4 if wide else 5e-5),
            roughness_um=float(np.exp(rng.normal(np.log(15), 0.6 if wide else 0.3))),
            scallops_um=u(-50, 50) * (odd and chance() < 0.2),
            terraces_um=u(10, 80) * (odd and chance() < 0.15),
            cleft_um=u(8, 90) * (odd and chance() < 0.2),
            cleft_above_um=max(0.0, u(-25, 25)),
            cleft_cover=u(-0.6, 1),
            surface_roughness_um=u(3, 90) if wide else u(5, 45),
            fissures=float(np.clip(rng.normal(0.35, 0.4), 0, 1)),
            fraying_um=u(3, 70) if wide else u(5, 25),
            radius_um=u(450, 2200) if wide else min(width_um * u(0.41, 0.48), u(950, 1050)),
            lean=tuple(np.clip(rng.normal(0, lean_sd, 2), -0.5, 0.5)),
            taper=rng.normal(0, 0.05),
            wall_roughness_um=u(2, 40) if wide else u(2, 16),
            step_um=rng.normal(0, 30),
            plate_um=float(np.exp(u(np.log(30), np.log(1000)))) if odd else u(180, 420),
            breach=-9.0 if solid else u(-3.4, -1.2) if wide else u(-3.4, -2.2),
            marrow=-9.0 if solid else u(-0.9, 1.4) if wide else u(-0.2, 0.6),
            cavity_um=u(70, 320) if wide else u(150, 260),
            pores=9.0 if odd and chance() < 0.2 else u(1.9, 3.6),
        )

    def cut_as(self, rng: np.random.Generator, kind: Kind, height_um: float) -> Anatomy:
        """Return the same tissue in a sample of another kind, as `draw_phantom` describes them."""
        u = rng.uniform
        if kind == "wide":
            return replace(self, radius_um=u(1900, 2100))
        if kind == "block":
            bottom = u(0.1, 0.4) * self.tidemark_um if rng.random() < 0.5 else self.bottom_um
            sides, turn = (u(1400, 1600), u(1900, 2100)), u(-np.pi / 4, np.pi / 4)
            return replace(self, sides_um=sides, turn=turn, bottom_um=bottom)
        if kind == "slab":
            surface = height_um - u(150, 300)
            tidemark = surface - min(0.35 * height_um, u(1000, 2200))
            flat = replace(self, surface_um=surface, tidemark_um=tidemark, curvature=0.0)
            sides = (u(1000, 1500), u(5000, 7000))
            return replace(flat, sides_um=sides, turn=u(-0.1, 0.1), bend_um=u(10_000, 25_000))
        return self


@dataclass(frozen=True)
class Stain:
    """Grey levels (0-255 before windowing) and textures of one plug under PTA."""

    air: float
    marrow: float
    fat: float
    debris: float
    superficial: float
    middle: float
    deep: float
    deep_um: float  # how far above the tidemark the deep zone's brightness reaches
    crest: float  # added where it is brightest; 0 where the contrast is lost
    crest_peak_um: float  # how far above the tidemark it is at its brightest
    crest_um: float  # how fast it fades above that
    crest_dip: float  # how much of it is missing far below that; 0: it is as bright down to the tidemark
    crest_patchiness: float  # 0: everywhere the same; 1: gone in places
    bone: float
    soak_um: float  # how deep below the tidemark half of the stain is gone
    soak_spread: float  # standard deviation of the logarithm of this depth, from place to place
    soak_shape: float  # exponent of the fall: 1 falls at once and has a tail, 3 is a front further down
    lost: float  # how far the contrast is lost in patches: bone as bright as the deep cartilage, no crest
    lost_um: float  # how deep in the bone
    lost_cover: float  # -1: in few places; 1: nearly everywhere
    calcified: float  # calcified cartilage against bone, factor
    lamina: float  # darkness of the lamina below the tidemark
    lamina_um: float  # its depth
    rim: float  # brightness added at the drilled wall of the bone
    rim_um: float
    cavity_rim: float
    crush: float  # brightness added at the cut bone end
    crush_um: float
    chondron: float  # darkness of the chondrons, 0-1
    chondron_um: float  # their size across
    chondron_zone_um: tuple[float, float]  # above the tidemark
    chondron_lean: float
    chondron_threshold: float
    skin: float  # brightness added under the cartilage's free surfaces
    skin_um: float
    skin_cover: float  # 0: in patches; above 1: nearly everywhere
    lacunae: float  # threshold of small black lacunae in the cartilage, in SD
    streak: float
    blotch: float
    grain: float
    void: float  # darkness of non-enhancing regions at the interface, 0-1
    void_threshold: float
    void_um: float
    crumbs: float  # threshold of bright crumbs around the bone, in SD
    crumbs_above: bool  # whether they lie around the cartilage, too
    clot: float  # grey level of clots in the marrow
    clot_threshold: float  # in SD
    wax: float
    parafilm: float

    @staticmethod
    def draw(rng: np.random.Generator, wide: bool = False) -> Stain:
        """Draw the grey levels; `wide` adds lost crests, bright bone and levels no scan has shown."""
        u, chance = rng.uniform, rng.random
        spots = chance() < 0.4
        middle, deep, bone, crest_lost = _contrast(rng, wide)
        zone_start = u(0, 250)
        return Stain(
            air=u(0, 4),
            marrow=u(0, 60) if wide and chance() < 0.3 else u(0, 20),
            fat=u(20, 90) if wide and chance() < 0.3 else u(20, 45),
            debris=u(40, 250),
            superficial=middle * u(0.8, 1.5),
            middle=middle,
            deep=deep,
            deep_um=u(150, 1200),
            crest=0.0 if crest_lost else u(10, 110) if wide else u(30, 70),
            crest_peak_um=u(0, 40) if wide else u(0, 25),
            crest_um=u(4, 60) if wide else u(8, 45),
            crest_dip=u(0, 0.5) if wide else u(0, 0.25),
            crest_patchiness=u(0, 1),
            bone=bone,
            soak_um=1.0 if chance() < 0.05 else _log_normal(rng, 24, 0.5 if wide else 0.35, (5, 45)),
            soak_spread=u(0, 0.5) if wide else u(0.1, 0.35),
            soak_shape=u(1.15, 3.2) if wide else u(1.4, 2.4),
            lost=u(0.4, 1) * (chance() < (0.4 if wide else 0.1)),
            lost_um=u(60, 600),
            lost_cover=u(-1, 1),
            calcified=u(0.85, 1.08),
            lamina=u(0, 0.4) * (chance() < 0.6),
            lamina_um=u(60, 220),
            rim=u(0, 160) * (chance() < 0.75),
            rim_um=u(5, 40),
            cavity_rim=u(0, 60) * (chance() < 0.6),
            crush=u(0, 120) * (chance() < 0.6),
            crush_um=u(10, 80),
            chondron=u(0.15, 0.5) if spots else u(0.15, 0.65) * (chance() < 0.85),
            chondron_um=u(14, 24) if spots else u(28, 60),
            chondron_zone_um=(zone_start, zone_start + u(200, 1200)),
            chondron_lean=float(np.clip(rng.normal(0, 0.3), -0.8, 0.8)),
            chondron_threshold=u(0.1, 1.4),
            skin=u(0, 100) * (chance() < 0.6),
            skin_um=u(20, 200),
            skin_cover=u(-0.5, 2) if wide else u(-0.5, 0.5),
            lacunae=u(2.6, 5),
            streak=u(0, 0.12),
            blotch=u(0.02, 0.16),
            grain=u(0, 0.05) * (not wide or chance() < 0.7),
            void=u(0.3, 0.95) * (chance() < (0.5 if wide else 0.2)),
            void_threshold=u(0.8, 2.0),
            void_um=u(20, 90),
            crumbs=u(1.7, 4),
            crumbs_above=chance() < 0.3,
            clot=bone * u(0.8, 1.2),
            clot_threshold=u(0.8, 2) if wide and chance() < 0.2 else 9.0,
            wax=u(4, 70) * (chance() < (0.3 if wide else 0.15)),
            parafilm=u(10, 90) * (chance() < 0.4),
        )


def _contrast(rng: np.random.Generator, wide: bool) -> tuple[float, float, float, bool]:
    """Draw the levels of middle and deep cartilage and of bone, and whether the crest between is lost."""
    u, chance = rng.uniform, rng.random
    deep = u(110, 215) if wide else u(124, 165)
    middle = deep * u(0.35, 1.02) if wide else u(80, 95)
    crest_lost = chance() < (0.45 if wide else 0.15)
    bone = deep * (u(0.8, 1.15) if chance() < 0.45 else u(0.4, 1.0)) if wide else u(88, 118)
    if wide and chance() < 0.12:  # contrasts no scan has shown
        middle, deep, bone = u(40, 220, 3)
    return middle, deep, bone, crest_lost


def _log_normal(rng: np.random.Generator, median: float, sd: float, within: tuple[float, float]) -> float:
    """Draw from a log-normal distribution, cut off at the ends."""
    return float(np.clip(median * np.exp(rng.normal(0, sd)), *within))
