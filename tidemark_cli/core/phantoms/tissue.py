"""Synthetic osteochondral tissue: one plug's anatomy and its grey levels under PTA and CA4+.

Everything is defined over micrometres with z growing from the bone end to the cartilage surface, so that
a training slice, a whole phantom and the same phantom at another voxel size come from one source.
Ranges follow what is measured on real PTA slices and published anatomy; ``wide`` goes beyond them.

Hard tissue is what is mineralised, as CA4+ shows it, and the tidemark is its upper face. PTA soaks into the
calcified cartilage from the tidemark down, so its grey level begins to fall there; the steepest fall, the PTA
edge, lies deeper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .texture import Array, Extent, Field, Grid, smoothstep

INF = np.inf


@dataclass(frozen=True)
class Anatomy:
    """Shapes of one plug. Lengths in µm; `tidemark_um` and `surface_um` are heights above z = 0."""

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
        u = rng.uniform
        chance = rng.random
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
        u = rng.uniform
        chance = rng.random
        spots = chance() < 0.4
        deep = u(110, 215) if wide else u(124, 165)
        middle = deep * u(0.35, 1.02) if wide else u(80, 95)
        crest_lost = chance() < (0.45 if wide else 0.15)
        bone = deep * (u(0.8, 1.15) if chance() < 0.45 else u(0.4, 1.0)) if wide else u(88, 118)
        if wide and chance() < 0.12:  # contrasts no scan has shown
            middle, deep, bone = u(40, 220, 3)
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


def _log_normal(rng: np.random.Generator, median: float, sd: float, within: tuple[float, float]) -> float:
    """Draw from a log-normal distribution, cut off at the ends."""
    return float(np.clip(median * np.exp(rng.normal(0, sd)), *within))


class Tissue:
    """One plug, ready to be drawn on any grid inside `extent`.

    Parameters
    ----------
    rng : drawn from in a fixed order, so one seed gives one plug.
    extent : the field of view in µm, along z, y, x.
    """

    def __init__(self, rng: np.random.Generator, extent: Extent, anatomy: Anatomy, stain: Stain) -> None:
        self.anatomy, self.stain = anatomy, stain
        a, s = anatomy, stain

        def field(z: float, y: float, x: float, shear: float = 0.0) -> Field:
            return Field(rng, extent, (z, y, x), shear)

        # heights over (y, x): the tidemark's dominant wavelengths are 90-310 µm, with teeth of some 25 µm
        self.tidemark_octaves = [
            (0.75, field(INF, 110, 110)),
            (0.55, field(INF, 45, 45)),
            (0.3, field(INF, 18, 18)),
        ]
        self.surface_octaves = [(0.8, field(INF, 180, 180)), (0.5, field(INF, 45, 45))]
        self.plate = field(INF, 160, 160)
        self.crest_gain = field(INF, 90, 90)
        self.lamina_gain = field(INF, 80, 80)
        self.losses = field(INF, 260, 260)
        self.soak_octaves = [(0.8, field(INF, 110, 110)), (0.6, field(INF, 40, 40))]
        self.scallops = field(INF, 55, 55)
        self.terraces = field(INF, 150, 150)
        self.clefts = field(INF, 200, 200)
        # in space
        self.cavities = field(a.cavity_um, a.cavity_um, a.cavity_um)
        self.roughening = field(30, 30, 30)
        self.pores = field(14, 9, 9)
        self.channels = field(60, 32, 32)
        self.wall = field(120, 120, 120)
        self.fissure = field(260, 90, 90)
        self.chondrons = field(1.7 * s.chondron_um, s.chondron_um, s.chondron_um, s.chondron_lean)
        self.streaks = field(220, 28, 28, 0.6 * s.chondron_lean)
        self.blotches = field(220, 180, 180)
        self.grain = field(8, 8, 8)
        self.voids = field(s.void_um, 1.6 * s.void_um, 1.6 * s.void_um)
        self.stuffing = field(45, 45, 45)  # of the marrow and of wax
        self.bubbles = field(16, 16, 16)
        self.clots = field(60, 60, 60)

    def heights(self, grid: Grid) -> tuple[Array, Array]:
        """Heights of the tidemark and of the cartilage surface in µm: (1, Y, X) each."""
        a = self.anatomy
        y, x = grid.y[None, :, None], grid.x[None, None, :]
        plane = a.tilt[0] * y + a.tilt[1] * x + a.curvature * (x * x + y * y) / 2
        rough = sum(weight * octave(grid) for weight, octave in self.tidemark_octaves)
        tidemark = a.tidemark_um + plane + a.roughness_um * rough
        if a.scallops_um:
            tidemark = tidemark + a.scallops_um * (np.abs(self.scallops(grid)) - 0.8)
        if a.terraces_um:
            tidemark = tidemark + a.terraces_um * (smoothstep(self.terraces(grid), 0.1, 0.25) - 0.4)
        rough = sum(weight * octave(grid) for weight, octave in self.surface_octaves)
        return tidemark, a.surface_um + 0.5 * plane + a.surface_roughness_um * rough

    def soak_depth(self, grid: Grid) -> Array:
        """How deep below the tidemark half of the stain is gone, in µm: (1, Y, X)."""
        s = self.stain
        return s.soak_um * np.exp(
            s.soak_spread * sum(weight * octave(grid) for weight, octave in self.soak_octaves)
        )

    def edge_depth(self, grid: Grid) -> Array:
        """How deep below the tidemark the stain falls most steeply, the PTA edge, in µm: (1, Y, X)."""
        p = self.stain.soak_shape
        return self.soak_depth(grid) * ((p - 1) / (p * np.log(2))) ** (1 / p)

    def draw(self, grid: Grid) -> tuple[Array, np.ndarray, Array]:
        """Draw the tissue on `grid`.

        Returns
        -------
        pta : (Z, Y, X) float32 grey levels, before the scanner's blur, noise and window.
        hard : (Z, Y, X) bool, the hard tissue: calcified cartilage and bone without marrow and channels.
        ca4 : (Z, Y, X) float32 grey levels of the same plug under CA4+.
        """
        a = self.anatomy
        tidemark, surface = self.heights(grid)
        above = grid.z[:, None, None] - tidemark  # µm above the tidemark
        inward = self._inward(grid, above)  # µm inside the plug's wall
        cavities = self.cavities(grid)

        plate = a.plate_um * np.clip(1 + 0.4 * self.plate(grid), 0.15, 2)
        marrow_level = a.breach + (a.marrow - a.breach) * smoothstep(-above, 0.25 * plate, plate)
        solid = (
            (cavities - marrow_level) * a.cavity_um * 0.6
        )  # µm, roughly, into the bone from its marrow spaces
        inside = inward > 0
        hard = inside & (above < 0) & (solid > 0) & (self.channels(grid) > -2.6)
        from_cut = self._from_cut(grid)
        hard &= from_cut > 0
        below = inside & (above < 0) & ~hard

        top = (
            surface - above - tidemark + a.fraying_um * self.roughening(grid)
        )  # µm below the cartilage surface
        crack = np.abs(self.fissure(grid)) * 90 - 14 * a.fissures
        crack_reach = a.fissures * 450 * (self.blotches(grid) + 0.6)
        cartilage = inside & (above >= 0) & (top > 0) & ((crack > 0) | (top > crack_reach))
        if a.cleft_um:
            gap = a.cleft_um * smoothstep(self.clefts(grid), a.cleft_cover, a.cleft_cover + 0.5)
            cartilage &= (above < a.cleft_above_um) | (above >= a.cleft_above_um + gap)

        pta, ca4 = self._outside(grid, inward)
        bright = 1 - self._void(grid, above)
        solid_tissue = cartilage | hard
        if solid_tissue.any():
            # stain is whole down to the tidemark, and fades from there on
            share = np.exp2(-(((-above).clip(0) / self.soak_depth(grid)) ** self.stain.soak_shape))
            level: Array = np.zeros(grid.shape, np.float32)
            if share.max() > 0:
                level = share * self._cartilage(grid, above.clip(0), top, inward) * bright
            if share.min() < 1:
                bone = self._bone(grid, above, inward, solid, from_cut)
                level = level + (1 - share) * bone * (0.7 + 0.3 * bright)
            pta = np.where(solid_tissue, level, pta)
            speckled = np.where(self.pores(grid) > a.pores, 90, 250 + 8 * self.blotches(grid))
            soft = 70 + 12 * smoothstep(-above, -900, 0) + 4 * self.blotches(grid)
            ca4 = np.where(hard, speckled, np.where(cartilage, soft, ca4))
        if below.any():
            stuffing, stuffing_ca4 = self._marrow(grid)
            pta, ca4 = np.where(below, stuffing, pta), np.where(below, stuffing_ca4, ca4)
        return pta.astype(np.float32), hard, ca4.astype(np.float32)

    def _from_cut(self, grid: Grid) -> Array:
        """µm above the plug's cut bone end: (Z, Y, X)."""
        a = self.anatomy
        cut = a.bottom_um + a.cut[0] * grid.y[None, :, None] + a.cut[1] * grid.x[None, None, :]
        return grid.z[:, None, None] - cut

    def _void(self, grid: Grid, above: Array) -> Array:
        """How much of the stain is missing (0-1) in non-enhancing regions about the interface."""
        s = self.stain
        near = smoothstep(120 - np.abs(above - 20), 0, 60)
        if not s.void or not near.any():
            return np.zeros((1, 1, 1), np.float32)
        return s.void * near * smoothstep(self.voids(grid), s.void_threshold, s.void_threshold + 0.25)

    def _inward(self, grid: Grid, above: Array) -> Array:
        a = self.anatomy
        z = grid.z[:, None, None] - a.tidemark_um
        y = grid.y[None, :, None] - a.lean[0] * z
        x = grid.x[None, None, :] - a.lean[1] * z
        radius = a.radius_um * (1 + a.taper * z / 1000) + a.step_um * smoothstep(above, 0, 60)
        # the cartilage's upper edge is rounded
        radius = (
            radius
            - 160 * smoothstep(z, a.surface_um - a.tidemark_um - 260, a.surface_um - a.tidemark_um) ** 2
        )
        return radius - np.sqrt(y * y + x * x) + a.wall_roughness_um * self.wall(grid)

    def _cartilage(self, grid: Grid, above: Array, top: Array, inward: Array) -> Array:
        s = self.stain
        level = s.middle + (s.deep - s.middle) * smoothstep(-above, -s.deep_um, 0)
        level = level + (s.superficial - s.middle) * smoothstep(-top, -150, 0)
        start, stop = s.chondron_zone_um
        zone = smoothstep(above, start, start + 120) * smoothstep(-above, -stop - 150, -stop)
        t = s.chondron_threshold
        level = level * (1 - s.chondron * zone * smoothstep(self.chondrons(grid), t, t + 0.8))
        level = level * (
            1 + s.streak * self.streaks(grid) + s.blotch * self.blotches(grid) + s.grain * self.grain(grid)
        )
        level = np.where(self.pores(grid) > s.lacunae, 0.3 * level, level)
        skin = np.exp(-((np.minimum(top, inward).clip(0) / s.skin_um) ** 2))
        level = level + s.skin * skin * np.clip(self.blotches(grid) + s.skin_cover, 0, 1.2)
        over = above - s.crest_peak_um
        fade = np.exp(-over.clip(0) / s.crest_um)
        dip = s.crest_dip * (1 - np.exp(-((over.clip(max=0) / s.crest_um) ** 2)))
        return level + self._crest(grid) * (fade - dip)

    def _crest(self, grid: Grid) -> Array:
        s = self.stain
        gain = np.clip(1 + s.crest_patchiness * (self.crest_gain(grid) - 0.3), 0, 1.6)
        return s.crest * gain * (1 - self._lost(grid))

    def _lost(self, grid: Grid) -> Array:
        """How far the contrast at the tidemark is lost: (1, Y, X), 0-1."""
        s = self.stain
        if not s.lost:
            return np.zeros((1, 1, 1), np.float32)
        return s.lost * smoothstep(self.losses(grid), -s.lost_cover, 0.7 - s.lost_cover)

    def _bone(self, grid: Grid, above: Array, inward: Array, solid: Array, from_cut: Array) -> Array:
        s, a = self.stain, self.anatomy
        depth = (-above).clip(0)
        level = s.bone * (
            s.calcified + (1 - s.calcified) * smoothstep(depth, s.lamina_um - 15, s.lamina_um + 15)
        )
        lamina = np.exp(-(((depth - s.lamina_um - 12 * self.plate(grid)) / 7) ** 2))
        level = level * (1 - s.lamina * lamina * smoothstep(self.lamina_gain(grid), -0.3, 0.5))
        level = level * (1 + 0.25 * s.blotch * self.blotches(grid) + s.grain * self.grain(grid))
        level = level + self._lost(grid) * (s.deep - level) * np.exp(-depth / s.lost_um)
        level = np.where(self.pores(grid) > a.pores, 0.25 * level, level)
        level = level + s.cavity_rim * np.exp(-solid.clip(0) / 5)
        level = level + s.crush * np.exp(-from_cut.clip(0) / s.crush_um)
        return level + s.rim * np.exp(-inward.clip(0) / s.rim_um) * np.clip(1 + 0.6 * self.wall(grid), 0, 2)

    def _marrow(self, grid: Grid) -> tuple[Array, Array]:
        """Marrow spaces under PTA and CA4+: black, fat with round holes, bright debris."""
        s = self.stain
        stuffing, bubbles, blotches = self.stuffing(grid), self.bubbles(grid), self.blotches(grid)
        fat = (blotches > 0.3) & (bubbles > -0.8)
        level = np.where(fat, s.fat + 5 * bubbles, s.marrow)
        debris = (stuffing > 1.3) & (blotches < 0.1)
        level = np.where(debris, s.debris * (1 + 0.3 * bubbles), level)
        clot = self.clots(grid) > s.clot_threshold
        return np.where(clot, s.clot * (1 + 0.05 * blotches), level), np.where(fat | clot, 12.0, 3.0)

    def _outside(self, grid: Grid, inward: Array) -> tuple[Array, Array]:
        """Air, wax and parafilm around the plug under PTA and CA4+, and crumbs below it."""
        s = self.stain
        outward = -inward
        level = np.full(grid.shape, s.air, np.float32)
        if s.wax:
            level = np.where(
                (self.blotches(grid) > 0) & (outward > 20), s.wax * (1 + 0.15 * self.bubbles(grid)), level
            )
        if s.parafilm:
            sheet = np.abs(outward - 90 - 70 * self.blotches(grid)) < 7
            level = np.where(sheet & (outward > 0), s.parafilm, level)
        crumbs = (self.stuffing(grid) > s.crumbs) & (outward > 0) & (outward < 200)
        if not s.crumbs_above:
            crumbs &= grid.z[:, None, None] < 0.6 * self.anatomy.tidemark_um
        return np.where(crumbs, s.debris * (1 + 0.3 * self.bubbles(grid)), level), level
