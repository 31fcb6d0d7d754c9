"""Synthetic osteochondral tissue: one plug, drawn as grey levels under PTA and CA4+ on any grid.

Everything is defined over micrometres with z growing from the bone end to the cartilage surface, so that
a training slice, a whole phantom and the same phantom at another voxel size come from one source.

Hard tissue is what is mineralised, as CA4+ shows it, and the tidemark is its upper face. PTA soaks into the
calcified cartilage from the tidemark down, so its grey level begins to fall there; the steepest fall, the PTA
edge, lies deeper.
"""

from __future__ import annotations

import numpy as np

from .anatomy import Anatomy, Stain
from .texture import Array, Extent, Field, Grid, smoothstep

INF = np.inf
Octaves = tuple[tuple[float, Field], ...]  # weights, and the fields that they add up with


class Tissue:
    """One plug, ready to be drawn on any grid inside `extent`.

    Parameters
    ----------
    rng : drawn from in a fixed order, so one seed gives one plug.
    extent : the field of view in µm, along z, y, x.
    most : as in `Field`: a wide sample of fine lattices would fill the memory.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        extent: Extent,
        anatomy: Anatomy,
        stain: Stain,
        most: int | None = None,
    ) -> None:
        self.anatomy, self.stain = anatomy, stain
        a, s = anatomy, stain

        def field(z: float, y: float, x: float, shear: float = 0.0) -> Field:
            return Field(rng, extent, (z, y, x), shear, most)

        # heights over (y, x): the tidemark's dominant wavelengths are 90-310 µm, with teeth of some 25 µm
        self.tidemark: Octaves = (
            (0.75, field(INF, 110, 110)),
            (0.55, field(INF, 45, 45)),
            (0.3, field(INF, 18, 18)),
        )
        self.surface: Octaves = ((0.8, field(INF, 180, 180)), (0.5, field(INF, 45, 45)))
        self.plate = field(INF, 160, 160)
        self.crest_gain = field(INF, 90, 90)
        self.lamina_gain = field(INF, 80, 80)
        self.losses = field(INF, 260, 260)
        self.soak: Octaves = ((0.8, field(INF, 110, 110)), (0.6, field(INF, 40, 40)))
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
        _, y, x = grid.mesh
        plane = a.tilt[0] * y + a.tilt[1] * x + a.curvature * (x * x + y * y) / 2
        tidemark = a.tidemark_um + plane + a.roughness_um * _sum(self.tidemark, grid)
        if a.scallops_um:
            tidemark = tidemark + a.scallops_um * (np.abs(self.scallops(grid)) - 0.8)
        if a.terraces_um:
            tidemark = tidemark + a.terraces_um * (smoothstep(self.terraces(grid), 0.1, 0.25) - 0.4)
        surface = a.surface_um + 0.5 * plane + a.surface_roughness_um * _sum(self.surface, grid)
        if a.bend_um:
            along = self._turned(y, x)[1]
            bow = np.sqrt((a.bend_um**2 - along**2).clip(0)) - a.bend_um
            tidemark, surface = tidemark + bow, surface + bow
        return tidemark, surface

    def soak_depth(self, grid: Grid) -> Array:
        """How deep below the tidemark half of the stain is gone, in µm: (1, Y, X)."""
        return self.stain.soak_um * np.exp(self.stain.soak_spread * _sum(self.soak, grid))

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
        above = grid.mesh[0] - tidemark  # µm above the tidemark
        inward = self._inward(grid, above)
        plate = a.plate_um * np.clip(1 + 0.4 * self.plate(grid), 0.15, 2)
        marrow_level = a.breach + (a.marrow - a.breach) * smoothstep(-above, 0.25 * plate, plate)
        solid = (self.cavities(grid) - marrow_level) * a.cavity_um * 0.6  # µm, roughly, from the marrow
        inside = inward > 0
        hard = inside & (above < 0) & (solid > 0) & (self.channels(grid) > -2.6)
        from_cut = self._from_cut(grid)
        hard &= from_cut > 0
        below = inside & (above < 0) & ~hard

        top = surface - above - tidemark + a.fraying_um * self.roughening(grid)  # µm below the surface
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
        z, y, x = grid.mesh
        return z - (a.bottom_um + a.cut[0] * y + a.cut[1] * x)

    def _void(self, grid: Grid, above: Array) -> Array:
        """How much of the stain is missing (0-1) in non-enhancing regions about the interface."""
        s = self.stain
        near = smoothstep(120 - np.abs(above - 20), 0, 60)
        if not s.void or not near.any():
            return np.zeros((1, 1, 1), np.float32)
        return s.void * near * smoothstep(self.voids(grid), s.void_threshold, s.void_threshold + 0.25)

    def _inward(self, grid: Grid, above: Array) -> Array:
        """µm inside the sample's wall: (Z, Y, X)."""
        a = self.anatomy
        z, y, x = grid.mesh
        z = z - a.tidemark_um
        y, x = y - a.lean[0] * z, x - a.lean[1] * z
        if a.sides_um is not None:
            along, across = self._turned(y, x)
            sawn = np.minimum(a.sides_um[0] - np.abs(along), a.sides_um[1] - np.abs(across))
            return sawn + a.wall_roughness_um * self.wall(grid)
        radius = a.radius_um * (1 + a.taper * z / 1000) + a.step_um * smoothstep(above, 0, 60)
        thickness = a.surface_um - a.tidemark_um
        radius = radius - 160 * smoothstep(z, thickness - 260, thickness) ** 2  # its upper edge is rounded
        return radius - np.sqrt(y * y + x * x) + a.wall_roughness_um * self.wall(grid)

    def _turned(self, y: Array, x: Array) -> tuple[Array, Array]:
        """Where (y, x) lies along the two sides of a sawn sample, in µm."""
        sine, cosine = np.float32(np.sin(self.anatomy.turn)), np.float32(np.cos(self.anatomy.turn))
        return cosine * y - sine * x, sine * y + cosine * x

    def _cartilage(self, grid: Grid, above: Array, top: Array, inward: Array) -> Array:
        s = self.stain
        level = s.middle + (s.deep - s.middle) * smoothstep(-above, -s.deep_um, 0)
        level = level + (s.superficial - s.middle) * smoothstep(-top, -150, 0)
        start, stop = s.chondron_zone_um
        zone = smoothstep(above, start, start + 120) * smoothstep(-above, -stop - 150, -stop)
        t = s.chondron_threshold
        level = level * (1 - s.chondron * zone * smoothstep(self.chondrons(grid), t, t + 0.8))
        streaks, blotches = s.streak * self.streaks(grid), s.blotch * self.blotches(grid)
        level = level * (1 + streaks + blotches + s.grain * self.grain(grid))
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
        uncalcified = smoothstep(depth, s.lamina_um - 15, s.lamina_um + 15)
        level = s.bone * (s.calcified + (1 - s.calcified) * uncalcified)
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
            covered = (self.blotches(grid) > 0) & (outward > 20)
            level = np.where(covered, s.wax * (1 + 0.15 * self.bubbles(grid)), level)
        if s.parafilm:
            sheet = np.abs(outward - 90 - 70 * self.blotches(grid)) < 7
            level = np.where(sheet & (outward > 0), s.parafilm, level)
        crumbs = (self.stuffing(grid) > s.crumbs) & (outward > 0) & (outward < 200)
        if not s.crumbs_above:
            crumbs &= grid.mesh[0] < 0.6 * self.anatomy.tidemark_um
        return np.where(crumbs, s.debris * (1 + 0.3 * self.bubbles(grid)), level), level


def _sum(octaves: Octaves, grid: Grid) -> Array:
    return sum(weight * octave(grid) for weight, octave in octaves)  # type: ignore[return-value]
