"""Facts that ``questions`` asks for."""


def _rows(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(part.strip() for part in row.split(",")) for row in text.strip().split("\n"))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _four(text: str) -> tuple[tuple[str, str, str, str], ...]:
    return tuple((a, b, c, d) for a, b, c, d in _rows(text))


def _three(text: str) -> tuple[tuple[str, str, str], ...]:
    return tuple((a, b, c) for a, b, c in _rows(text))


def _two(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((a, b) for a, b in _rows(text))


COUNTRIES = _four("""
France, Paris, Europe, French
Germany, Berlin, Europe, German
Italy, Rome, Europe, Italian
Spain, Madrid, Europe, Spanish
Portugal, Lisbon, Europe, Portuguese
Poland, Warsaw, Europe, Polish
Greece, Athens, Europe, Greek
Norway, Oslo, Europe, Norwegian
Sweden, Stockholm, Europe, Swedish
Finland, Helsinki, Europe, Finnish
Denmark, Copenhagen, Europe, Danish
Hungary, Budapest, Europe, Hungarian
Austria, Vienna, Europe, German
Ireland, Dublin, Europe, English
Iceland, Reykjavik, Europe, Icelandic
Romania, Bucharest, Europe, Romanian
Bulgaria, Sofia, Europe, Bulgarian
Croatia, Zagreb, Europe, Croatian
Japan, Tokyo, Asia, Japanese
China, Beijing, Asia, Chinese
India, New Delhi, Asia, Hindi
Thailand, Bangkok, Asia, Thai
Vietnam, Hanoi, Asia, Vietnamese
Nepal, Kathmandu, Asia, Nepali
Mongolia, Ulaanbaatar, Asia, Mongolian
Indonesia, Jakarta, Asia, Indonesian
Iran, Tehran, Asia, Persian
Iraq, Baghdad, Asia, Arabic
Jordan, Amman, Asia, Arabic
Egypt, Cairo, Africa, Arabic
Morocco, Rabat, Africa, Arabic
Kenya, Nairobi, Africa, Swahili
Ghana, Accra, Africa, English
Ethiopia, Addis Ababa, Africa, Amharic
Angola, Luanda, Africa, Portuguese
Senegal, Dakar, Africa, French
Zambia, Lusaka, Africa, English
Canada, Ottawa, North America, English
Mexico, Mexico City, North America, Spanish
Cuba, Havana, North America, Spanish
Jamaica, Kingston, North America, English
Brazil, Brasilia, South America, Portuguese
Argentina, Buenos Aires, South America, Spanish
Chile, Santiago, South America, Spanish
Peru, Lima, South America, Spanish
Colombia, Bogota, South America, Spanish
Uruguay, Montevideo, South America, Spanish
Australia, Canberra, Oceania, English
New Zealand, Wellington, Oceania, English
Fiji, Suva, Oceania, Fijian
""")
OPPOSITES = _two("""
hot, cold
big, small
fast, slow
high, low
old, young
open, closed
full, empty
hard, soft
light, dark
wet, dry
early, late
rich, poor
strong, weak
happy, sad
loud, quiet
wide, narrow
deep, shallow
near, far
sweet, bitter
clean, dirty
safe, dangerous
simple, complicated
heavy, light
thick, thin
sharp, blunt
brave, cowardly
smooth, rough
cheap, expensive
true, false
front, back
""")
PLURALS = _two("""
mouse, mice
goose, geese
child, children
foot, feet
tooth, teeth
leaf, leaves
knife, knives
wolf, wolves
city, cities
baby, babies
box, boxes
church, churches
potato, potatoes
hero, heroes
sheep, sheep
ox, oxen
person, people
cactus, cacti
crisis, crises
shelf, shelves
loaf, loaves
story, stories
""")
ANIMALS = _three("""
dog, a mammal, four
cat, a mammal, four
horse, a mammal, four
cow, a mammal, four
lion, a mammal, four
frog, an amphibian, four
lizard, a reptile, four
crocodile, a reptile, four
sparrow, a bird, two
owl, a bird, two
penguin, a bird, two
chicken, a bird, two
spider, an arachnid, eight
scorpion, an arachnid, eight
ant, an insect, six
bee, an insect, six
beetle, an insect, six
butterfly, an insect, six
crab, a crustacean, ten
lobster, a crustacean, ten
kangaroo, a mammal, two
rabbit, a mammal, four
""")
ELEMENTS = _three("""
hydrogen, H, 1
helium, He, 2
lithium, Li, 3
carbon, C, 6
nitrogen, N, 7
oxygen, O, 8
neon, Ne, 10
sodium, Na, 11
magnesium, Mg, 12
aluminium, Al, 13
silicon, Si, 14
sulphur, S, 16
chlorine, Cl, 17
potassium, K, 19
calcium, Ca, 20
titanium, Ti, 22
iron, Fe, 26
nickel, Ni, 28
copper, Cu, 29
zinc, Zn, 30
silver, Ag, 47
tin, Sn, 50
gold, Au, 79
lead, Pb, 82
""")
MADE_OF = _two("""
bread, flour and water
paper, wood fibres
glass, melted sand
cheese, milk
wine, grapes
a brick, burnt clay
butter, cream
chocolate, cocoa and sugar
steel, iron and carbon
bronze, copper and tin
a candle, wax
silk, threads of a moth
a tyre, rubber
snow, ice crystals
honey, nectar
concrete, cement and gravel
a window, glass
rope, twisted fibres
""")
UNITS = tuple(
    (a, b, int(c))
    for a, b, c in _rows("""
hours, minutes, 60
minutes, seconds, 60
days, hours, 24
weeks, days, 7
years, months, 12
metres, centimetres, 100
kilometres, metres, 1000
kilograms, grams, 1000
litres, millilitres, 1000
dozens, pieces, 12
feet, inches, 12
yards, feet, 3
centuries, years, 100
decades, years, 10
""")
)
WORDS = _words("""
apple river mountain garden window bridge candle forest island letter market morning ocean
pencil picture planet pocket rabbit school season silver summer table teacher thunder ticket
tomato tower train valley village violin winter writer yellow bottle castle doctor engine
family guitar hammer jacket kitchen ladder magnet needle orange parrot quarter ribbon saddle
tunnel umbrella velvet wagon yogurt zebra anchor basket camera dragon
""")
THINGS = _two("""
a red bicycle, in front of the station
an old clock, above the door
a small boat, on the lake
a green lamp, beside the bed
a tall ladder, against the wall
a wooden box, under the table
a white horse, behind the fence
a broken cup, on the floor
a long letter, in the drawer
a paper map, on the seat
a warm coat, at the market
a bright star, over the hills
a quiet cat, on the roof
a heavy stone, near the river
a glass of water, by the window
""")
TASKS = _three("""
boil an egg, put the egg in boiling water, wait for eight minutes
make tea, boil fresh water, let the leaves stand for three minutes
plant a tree, dig a wide hole, water the roots well
clean a window, wash it with soapy water, dry it with a cloth
sharpen a knife, wet the stone, draw the blade along it
paint a wall, cover the floor, roll the colour on in thin layers
learn a language, listen to it every day, speak it without fear
bake bread, knead the dough, leave it to rise for an hour
fix a flat tyre, take the wheel off, close the hole with a patch
write a letter, say why you write, end with your name
save money, note what you spend, put a part aside every month
cook rice, wash the grains, let them swell with the lid on
fold a shirt, lay it flat, bring in both sleeves
grow tomatoes, choose a sunny place, tie the plants to a stick
remember a name, say it aloud, think of a picture for it
sleep better, go to bed at one time, keep the room dark
iron a dress, set the right heat, begin with the collar
pack a bag, put heavy things at the bottom, fill the gaps with socks
tune a guitar, start with the lowest string, compare each with the next
find north, look for the pole star, turn until you face it
""")
NUMBERS = _words("""
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty
""")
